//! Which version of the service this is, where the environment tells.

use parti_core::Config;

/// The variables that tell, the first one that is set counts. The second is what a Kubernetes Deployment gives to the
/// pods of one template as the label `pod-template-hash`, if the template passes it on.
const VARIABLES: [&str; 2] = ["PARTI_SOFTWARE", "POD_TEMPLATE_HASH"];

/// `config` with the version that the environment tells, unless it has one.
pub(crate) fn with_software(config: Config, variable: impl Fn(&str) -> Option<String>) -> Config {
    if !config.software.is_empty() {
        return config;
    }
    let told = VARIABLES.iter().find_map(|name| variable(name).filter(|value| !value.trim().is_empty()));
    Config { software: told.map(|value| value.trim().to_owned()).unwrap_or_default(), ..config }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_counts_more_than_the_environment_and_that_in_its_order() {
        let of = |software: &str, set: &[(&str, &str)]| {
            let config = Config { software: software.into(), ..Config::default() };
            let variable = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            with_software(config, variable).software
        };
        assert_eq!(of("", &[]), "");
        assert_eq!(of("", &[("POD_TEMPLATE_HASH", "5d4f")]), "5d4f");
        assert_eq!(of("", &[("POD_TEMPLATE_HASH", "5d4f"), ("PARTI_SOFTWARE", " v7 ")]), "v7");
        assert_eq!(of("", &[("POD_TEMPLATE_HASH", "5d4f"), ("PARTI_SOFTWARE", "")]), "5d4f");
        assert_eq!(of("v8", &[("PARTI_SOFTWARE", "v7")]), "v8");
    }
}
