//! One worker that shows itself: metrics for Prometheus under `/metrics`, and `/livez` and `/readyz` for a platform such
//! as Kubernetes.
//!
//! ```sh
//! cargo run -p parti-example-metrics -- --listen 127.0.0.1:9090
//! curl http://127.0.0.1:9090/metrics
//! ```

#[path = "../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use clap::{Parser, ValueEnum};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parti_nats::{
    Builder, Config, Handle, HealthCheck, PartitionGuard, SECONDS_BUCKETS, Slot, Verdict, describe_metrics,
};
use tokio::net::TcpListener;

/// One worker that shows itself under `/metrics`, `/livez` and `/readyz`, as `deploy/` runs it.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// The group of workers.
    #[arg(long, default_value = "orders")]
    group: String,
    /// How many partitions to divide: orders-0, orders-1, …
    #[arg(long, default_value_t = 64)]
    partitions: u32,
    /// How many copies of each bucket the servers keep.
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// How many workers make a cold start complete.
    #[arg(long)]
    expected_workers: Option<u32>,
    /// This pod of a StatefulSet, such as orders-7, whose slot is then 7: the one before it has certainly ended.
    #[arg(long, value_name = "NAME", value_parser = slot)]
    stateful_pod: Option<Slot>,
    /// What SIGTERM and SIGINT mean: leave and hand everything over, or restart and keep it for the successor.
    #[arg(long, value_enum, default_value = "leave")]
    on_sigterm: Stop,
    /// Where to listen for questions.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stop {
    Leave,
    Restart,
}

/// The ordinal of a pod.
fn slot(pod: &str) -> Result<Slot, String> {
    let ordinal = pod.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok());
    ordinal
        .map(Slot::new)
        .ok_or_else(|| "a pod of a StatefulSet is named with its ordinal, such as orders-7".to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::log();
    let arguments = Arguments::parse();
    // The recorder comes before the worker, whose metrics would else go nowhere.
    let prometheus = PrometheusBuilder::new().set_buckets(SECONDS_BUCKETS)?.install_recorder()?;
    describe_metrics();
    let mut worker = builder(&arguments).start()?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let questions = questions(prometheus, worker.health_check());
    tokio::spawn(async move { axum::serve(listener, questions).await });
    stop_when_told(&worker, arguments.on_sigterm);
    Ok(worker.run(work).await?)
}

fn builder(arguments: &Arguments) -> Builder {
    let config = Config {
        expected_workers: arguments.expected_workers,
        preferred_slot: arguments.stateful_pod,
        predecessor_is_dead: arguments.stateful_pod.is_some(),
        ..Config::default()
    };
    let partitions = (0..arguments.partitions).map(|number| format!("orders-{number}"));
    Builder::new(&arguments.group)
        .server(&arguments.server.url)
        .replicas(arguments.replicas)
        .config(config)
        .partition_ids(partitions)
        .retry_first_connection(true) // servers and workers may be started together
}

fn stop_when_told(worker: &Handle, how: Stop) {
    let (worker, mut told) = (worker.stopper(), common::StopSignal::new());
    tokio::spawn(async move {
        told.received().await;
        match how {
            Stop::Leave => worker.stop(),
            Stop::Restart => worker.restart(),
        }
    });
}

async fn work(guard: impl PartitionGuard) {
    while guard.may_work().await {
        guard.released().await;
    }
}

/// What is answered over HTTP.
fn questions(prometheus: PrometheusHandle, health: HealthCheck) -> Router {
    let ready = health.clone();
    Router::new()
        .route("/metrics", get(move || async move { prometheus.render() }))
        .route("/livez", get(move || async move { verdict(health.check().live) }))
        .route("/readyz", get(move || async move { verdict(ready.check().ready) }))
}

fn verdict(Verdict { good, reason }: Verdict) -> (StatusCode, String) {
    (if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, reason + "\n")
}
