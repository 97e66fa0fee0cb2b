//! One worker that shows itself: metrics for Prometheus under `/metrics`, and `/livez` and `/readyz` for a platform such
//! as Kubernetes.
//!
//! ```sh
//! cargo run -p parti-nats --example metrics -- --listen 127.0.0.1:9090
//! curl http://127.0.0.1:9090/metrics
//! ```

mod common;

use std::net::SocketAddr;

use clap::Parser;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parti_nats::{Builder, Guard, HealthCheck, SECONDS_BUCKETS, Verdict, describe_metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request line is shorter; what else a client says is not read.
const MAX_REQUEST_BYTES: usize = 1_024;

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
    tokio::spawn(serve(TcpListener::bind(arguments.listen).await?, prometheus, worker.health_check()));
    common::stop_when_told(&worker);
    Ok(worker.run(work).await?)
}

async fn work(guard: Guard) {
    while guard.may_work().await {
        guard.released().await;
    }
}

/// The smallest HTTP server that answers three questions.
async fn serve(listener: TcpListener, prometheus: PrometheusHandle, health: HealthCheck) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, prometheus.clone(), health.clone()));
    }
}

async fn answer(mut stream: TcpStream, prometheus: PrometheusHandle, health: HealthCheck) -> std::io::Result<()> {
    let mut request = [0; MAX_REQUEST_BYTES];
    let read = stream.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..read]);
    let (status, body) = match request.split(' ').nth(1) {
        Some("/metrics") => ("200 OK", prometheus.render()),
        Some("/livez") => verdict(health.check().live),
        Some("/readyz") => verdict(health.check().ready),
        _ => ("404 Not Found", "there are /metrics, /livez and /readyz\n".into()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).await
}

fn verdict(Verdict { good, reason }: Verdict) -> (&'static str, String) {
    (if good { "200 OK" } else { "503 Service Unavailable" }, reason + "\n")
}
