//! One worker process, whose work is simulated. It prints one JSON object a line for everything that happens; SIGTERM
//! or SIGINT stops it.
//!
//! ```sh
//! cargo run -p parti-nats --example worker -- --url nats://127.0.0.1:4222 --partitions 12
//! ```

mod common;
mod simulated;

use std::process::ExitCode;

use clap::Parser;
use simulated::{Options, Stop};

#[derive(Debug, Parser)]
#[command(about = "One worker whose work is simulated; prints one JSON object a line")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// What SIGTERM and SIGINT mean: leave and hand everything over, or restart and keep it for the successor.
    #[arg(long, value_enum, default_value = "leave")]
    on_sigterm: Stop,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { options, on_sigterm } = Arguments::parse();
    common::log();
    let mut stop = common::StopSignal::new();
    let asked_to_stop = async {
        stop.received().await;
        on_sigterm
    };
    simulated::run(options, asked_to_stop).await
}
