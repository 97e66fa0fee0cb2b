//! When what listings do not show any more counts as lost.

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::planted::PlantedBug;

/// How many listings in a row must show less than is known before the store has lost it: one may come from a replica that
/// lags.
const MAX_DOUBTS: u32 = 3;

/// How many listings in a row have shown less of something than is known to be in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Doubt(u32);

impl Doubt {
    /// Takes in a complete listing. One that shows all that is known ends the doubt.
    pub(crate) fn observe_listing(&mut self, shows_less: bool) {
        self.0 = if shows_less { self.0 + 1 } else { 0 };
    }

    /// Whether the last listing has shown less than is known.
    pub(crate) fn is_raised(self) -> bool {
        self.0 > 0
    }

    /// Whether so many have that the store has lost what they do not show.
    pub(crate) fn is_certain(self, context: &Context) -> bool {
        self.0 >= MAX_DOUBTS && !context.has(PlantedBug::NeverBelieve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    #[test]
    fn one_listing_that_shows_it_begins_the_count_anew() {
        let context = Context::at(Instant::ORIGIN);
        let mut doubt = Doubt::default();
        for shows_less in [true, true, false, true, true] {
            doubt.observe_listing(shows_less);
            assert_eq!(doubt.is_raised(), shows_less);
            assert!(!doubt.is_certain(&context));
        }
        doubt.observe_listing(true);
        assert!(doubt.is_certain(&context), "the third in a row");
    }
}
