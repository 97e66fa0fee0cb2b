//! The manifests.

use std::process::Command;
use std::time::Duration;

use parti_nats::{Config, GroupName, Role, permissions};
use serde_json::{Value, json};

use crate::yaml::{documents, read, root, stop, texts};

/// Both ways to run workers, with the kind of their controller.
const WORKERS: [(&str, &str); 2] =
    [("kubernetes/statefulset/orders.yaml", "StatefulSet"), ("kubernetes/deployment/orders.yaml", "Deployment")];

fn of_kind(path: &str, kind: &str) -> Value {
    let mut found: Vec<_> = documents(path).into_iter().filter(|document| document["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{path}: {kind}");
    found.remove(0)
}

fn pod(path: &str, kind: &str) -> Value {
    of_kind(path, kind)["spec"]["template"].clone()
}

fn container(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]
}

#[test]
fn a_worker_has_the_time_that_its_stop_takes() {
    for (path, kind) in WORKERS {
        let pod = pod(path, kind);
        let seconds = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number");
        let grace = Duration::from_secs(seconds);
        assert!(grace > stop(), "{path}: {grace:?} is not longer than a stop, {:?}", stop());
        assert!(grace > Config::default().lease, "{path}: while NATS is away a stop takes a lease");
    }
}

#[test]
fn probes_ask_for_what_the_example_serves_and_tell_death_from_trouble() {
    for (path, kind) in WORKERS {
        let pod = pod(path, kind);
        let container = container(&pod);
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez", "{path}");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz", "{path}");
        let ports = container["ports"].as_array().expect("ports");
        for probe in ["livenessProbe", "readinessProbe"] {
            let port = &container[probe]["httpGet"]["port"];
            assert!(ports.iter().any(|named| named["name"] == *port), "{path}: {port}");
        }
        let listens = texts(&container["args"]).into_iter().find(|argument| argument.starts_with("--listen="));
        let port = ports[0]["containerPort"].as_u64().expect("a number");
        assert_eq!(listens, Some(format!("--listen=0.0.0.0:{port}").as_str()), "{path}");
    }
}

#[test]
fn the_example_understands_what_it_is_told() {
    for (path, kind) in WORKERS {
        let pod = pod(path, kind);
        let arguments = texts(&container(&pod)["args"]);
        assert!(arguments.contains(&"--on-sigterm=restart"), "{path}: else a deploy moves everything");
        let replicas = of_kind(path, kind)["spec"]["replicas"].as_u64().expect("a number");
        assert!(arguments.contains(&format!("--expected-workers={replicas}").as_str()), "{path}");
        let given = arguments.iter().map(|argument| argument.replace("$(POD_NAME)", "orders-7"));
        let output = Command::new(env!("CARGO_BIN_EXE_parti-example-metrics")).args(given).arg("--help").output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_pod_of_a_stateful_set_takes_the_slot_of_its_number_and_one_of_a_deployment_tells_its_version() {
    let [stateful, deployed] = WORKERS.map(|(path, kind)| pod(path, kind));
    assert!(texts(&container(&stateful)["args"]).contains(&"--stateful-pod=$(POD_NAME)"));
    assert_eq!(of_kind(WORKERS[0].0, WORKERS[0].1)["spec"]["podManagementPolicy"], "Parallel");

    let variable = |pod: &Value, name: &str| {
        let all = container(pod)["env"].as_array().expect("variables").clone();
        all.into_iter().find(|variable| variable["name"] == name)
    };
    let hash = variable(&deployed, "POD_TEMPLATE_HASH").expect("its version");
    assert_eq!(hash["valueFrom"]["fieldRef"]["fieldPath"], "metadata.labels['pod-template-hash']");
    assert!(!texts(&container(&deployed)["args"]).iter().any(|argument| argument.starts_with("--stateful-pod")));
    let rolling = &of_kind(WORKERS[1].0, WORKERS[1].1)["spec"]["strategy"]["rollingUpdate"];
    assert_eq!((&rolling["maxUnavailable"], rolling["maxSurge"].as_u64() >= Some(1)), (&json!(0), true));
}

#[test]
fn no_pod_has_more_rights_than_it_needs_and_secrets_are_secrets() {
    let all = WORKERS.into_iter().chain([("kubernetes/nats/nats.yaml", "StatefulSet")]);
    for (path, kind) in all {
        let pod = pod(path, kind);
        let container = container(&pod);
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{path}");
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true, "{path}");
        let own = &container["securityContext"];
        assert_eq!((&own["readOnlyRootFilesystem"], &own["allowPrivilegeEscalation"]), (&json!(true), &json!(false)));
        assert_eq!(own["capabilities"]["drop"], json!(["ALL"]), "{path}");
        for variable in container["env"].as_array().into_iter().flatten() {
            if variable["name"].as_str().is_some_and(|name| name.ends_with("_PASSWORD")) {
                assert_eq!(variable["valueFrom"]["secretKeyRef"]["name"], "parti-nats", "{path}");
            }
        }
        assert!(!documents(path).iter().any(|document| document["kind"] == "Secret"), "{path}: passwords are not here");
    }
}

#[test]
fn what_belongs_together_is_spread_kept_and_let_through() {
    let all = WORKERS.into_iter().chain([("kubernetes/nats/nats.yaml", "StatefulSet")]);
    for (path, kind) in all {
        let (controller, pod) = (of_kind(path, kind), pod(path, kind));
        let labels = &pod["metadata"]["labels"];
        let name = json!({ "app.kubernetes.io/name": labels["app.kubernetes.io/name"] });
        assert_eq!(controller["spec"]["selector"]["matchLabels"], name, "{path}");
        assert_eq!(of_kind(path, "Service")["spec"]["selector"], name, "{path}");
        assert_eq!(of_kind(path, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"], name, "{path}");
        let budget = of_kind(path, "PodDisruptionBudget");
        assert_eq!((&budget["spec"]["selector"]["matchLabels"], &budget["spec"]["maxUnavailable"]), (&name, &json!(1)));
        for spread in pod["spec"]["topologySpreadConstraints"].as_array().expect("constraints") {
            assert_eq!(spread["labelSelector"]["matchLabels"], name, "{path}");
        }
    }
    let through =
        &of_kind("kubernetes/nats/nats.yaml", "NetworkPolicy")["spec"]["ingress"][0]["from"][0]["podSelector"];
    for (path, kind) in WORKERS {
        let labels = pod(path, kind)["metadata"]["labels"].clone();
        let wanted = through["matchLabels"].as_object().expect("labels");
        assert!(wanted.iter().all(|(name, value)| labels[name] == *value), "{path} is not let through to NATS");
    }
}

#[test]
fn workers_name_every_server_and_keep_a_copy_on_each() {
    let servers = of_kind("kubernetes/nats/nats.yaml", "StatefulSet")["spec"]["replicas"].as_u64().expect("a number");
    for (path, kind) in WORKERS {
        let pod = pod(path, kind);
        let variables = container(&pod)["env"].as_array().expect("variables").clone();
        let url = variables.iter().find(|variable| variable["name"] == "NATS_URL").expect("a URL")["value"].clone();
        let url = url.as_str().expect("text");
        for number in 0..servers {
            assert!(url.contains(&format!("nats-{number}.nats:4222")), "{path}: {url}");
        }
        assert!(texts(&container(&pod)["args"]).contains(&format!("--replicas={servers}").as_str()), "{path}");
    }
    let cluster = read("kubernetes/nats/cluster.conf");
    assert!((0..servers).all(|number| cluster.contains(&format!("nats://nats-{number}.nats:6222"))), "{cluster}");
}

#[test]
fn users_of_the_server_are_allowed_what_they_need_and_no_more() {
    let text = read("kubernetes/nats/users.conf");
    let group = GroupName::new("orders").expect("a valid name");
    let roles = [("worker", Role::FoundingWorker), ("operator", Role::Operator), ("observer", Role::Observer)];
    for (name, role) in roles {
        let own = text.split_once(&format!("user: {name}\n")).expect(name).1.split("user: ").next().unwrap_or_default();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let written = words(own.split_once("permissions: ").expect("a list").1);
        let wanted = words(&permissions(&group, role).to_string());
        assert_eq!(written[..wanted.len()], wanted[..], "{name}");
    }
}

#[test]
fn the_servers_read_their_configuration() {
    let binary = Command::new(root().join("scripts/nats-server")).output().expect("it runs");
    let binary = String::from_utf8(binary.stdout).expect("a path");
    for file in ["cluster.conf", "single.conf"] {
        let output = Command::new(binary.trim())
            .args(["-t", "-c"])
            .arg(root().join("deploy/kubernetes/nats").join(file))
            .envs([
                ("POD_NAME", "nats-0"),
                ("WORKER_PASSWORD", "w1"),
                ("OPERATOR_PASSWORD", "o1"),
                ("OBSERVER_PASSWORD", "b1"),
            ])
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
