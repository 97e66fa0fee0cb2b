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
use clap::Parser;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parti_nats::{Builder, HealthCheck, PartitionGuard, SECONDS_BUCKETS, Verdict, describe_metrics};
use tokio::net::TcpListener;

/// One worker that shows itself under `/metrics`, `/livez` and `/readyz`.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// Where to listen for questions.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::log();
    let arguments = Arguments::parse();
    // The recorder comes before the worker, whose metrics would else go nowhere.
    let prometheus = PrometheusBuilder::new().set_buckets(SECONDS_BUCKETS)?.install_recorder()?;
    describe_metrics();
    let partitions = (0..64).map(|number| format!("orders-{number}"));
    let mut worker = Builder::new("orders").server(arguments.server.url).partition_ids(partitions).start()?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let questions = questions(prometheus, worker.health_check());
    tokio::spawn(async move { axum::serve(listener, questions).await });
    common::stop_when_told(&worker);
    Ok(worker.run(work).await?)
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
