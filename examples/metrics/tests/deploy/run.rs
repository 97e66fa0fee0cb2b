//! The example on a server that is configured as that of `deploy/`, asked as Kubernetes and Prometheus ask it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use parti_nats::{METRICS, MetricKind};

use crate::support::{Port, Server};
use crate::yaml::{read, stop};

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A worker as a process, ended with its owner.
struct Worker {
    process: Child,
    port: Port,
}

impl Worker {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let port = Port::take();
        let address = port.url().replace("nats://", "");
        let process = Command::new(env!("CARGO_BIN_EXE_parti-example-metrics"))
            .args(["--listen", &address, "--expected-workers=2"])
            .args(arguments)
            .env("NATS_URL", server.url().replace("nats://", "nats://worker:w1@"))
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self { process: process.expect("it runs"), port }
    }

    /// What is answered under this path: the code, and the text.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let number = self.port.url().rsplit(':').next()?.parse().ok()?;
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, number))).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let code = answer.split(' ').nth(1)?.parse().ok()?;
        Some((code, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// Waits until the answer under this path is as wanted.
    fn until(&self, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.get(path);
            if let Some((code, text)) = &answer
                && wanted(*code, text)
            {
                return text.clone();
            }
            assert!(Instant::now() < deadline, "{path}: {answer:?}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Tells it to end, as a platform does, and says how long that took.
    fn end(mut self) -> Duration {
        let begun = Instant::now();
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("a child can be signalled");
        let status = self.process.wait().expect("a child can be waited for");
        assert!(status.success(), "{status}");
        begun.elapsed()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server as that of `deploy/compose.yaml`, on a port of its own.
fn server() -> Server {
    let mut config = read("kubernetes/nats/single.conf");
    for line in ["port: 4222\n", "http_port: 8222\n"] {
        assert!(config.contains(line), "{line}");
        config = config.replace(line, "");
    }
    let mut users = read("kubernetes/nats/users.conf");
    for (name, password) in [("$WORKER_PASSWORD", "w1"), ("$OPERATOR_PASSWORD", "o1"), ("$OBSERVER_PASSWORD", "b1")] {
        users = users.replace(name, password);
    }
    Server::start_with_config(&config.replace("include users.conf", &users))
}

fn owned(metrics: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with("parti_partitions_owned{"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn two_workers_share_answer_probes_show_every_metric_and_restart_in_time() {
    let server = server();
    let start = |number: u32| {
        let pod = format!("--stateful-pod=orders-{number}");
        Worker::start(&server, &[&pod, "--on-sigterm=restart"])
    };
    let workers = [start(0), start(1)];
    for worker in &workers {
        worker.until("/readyz", |code, _| code == 200);
        worker.until("/livez", |code, _| code == 200);
        worker.until("/metrics", |code, text| code == 200 && owned(text) == Some(32.0));
    }
    let shown = workers[0].until("/metrics", |_, text| text.contains("parti_lease_margin_seconds_bucket"));
    for metric in METRICS.iter().filter(|metric| metric.label.is_empty() && metric.kind != MetricKind::Histogram) {
        assert!(shown.contains(&format!("\n{}{{", metric.name)), "{} is not shown", metric.name);
    }
    // The bound that an alert asks for.
    assert!(shown.contains("parti_lease_margin_seconds_bucket{group=\"orders\",le=\"2.5\"}"), "{shown}");

    let [first, second] = workers;
    assert!(first.end() < stop());
    let again = start(0);
    again.until("/metrics", |_, text| owned(text) == Some(32.0));
    let kept = second.until("/metrics", |_, text| owned(text).is_some());
    assert_eq!(owned(&kept), Some(32.0), "a restart moves nothing");
}
