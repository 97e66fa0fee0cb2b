//! One worker that is handed the messages of its partitions. It prints one JSON object a line for each message that it
//! begins and ends; SIGTERM or SIGINT stops it. `produce` publishes some.
//!
//! ```sh
//! cargo run -p parti-nats --example consume -- --url nats://127.0.0.1:4222 --partitions 12
//! ```

mod common;

use std::error::Error;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use parti_nats::{Builder, Config, Delivered, Delivery, Engine, Handle, HumanDuration, Policy, WorkerState};
use serde_json::json;

#[derive(Debug, Parser)]
#[command(about = "One worker that is handed the messages of its partitions; prints one JSON object a line")]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// The group of workers.
    #[arg(long, default_value = "orders")]
    group: String,
    /// The stream.
    #[arg(long, default_value = "ORDERS")]
    stream: String,
    /// How many partitions: p00000, p00001, …
    #[arg(long, default_value_t = 12)]
    partitions: usize,
    /// The subject of each partition.
    #[arg(long, default_value = "orders.{partition}")]
    subject: String,
    /// How messages are read: from a stream that keeps them, or from one that removes what is acknowledged. What its
    /// retention asks for by default.
    #[arg(long, value_enum)]
    engine: Option<How>,
    /// How long the work on a message takes, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    work: u64,
    /// How long this worker may act after its last renewal, such as 10s.
    #[arg(long, default_value = "10s")]
    lease: HumanDuration,
    /// Where messages go that have failed five times, such as dead.{partition}.
    #[arg(long)]
    dead_letters: Option<String>,
    /// What SIGTERM and SIGINT mean: leave and hand everything over, or restart and keep it for the successor.
    #[arg(long, value_enum, default_value = "leave")]
    on_sigterm: Stop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    Log,
    Queue,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stop {
    Leave,
    Restart,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    common::log();
    let config = Config { lease: arguments.lease.0, ..Config::default() };
    let ids = (0..arguments.partitions).map(|number| format!("p{number:05}"));
    let worker =
        Builder::new(&arguments.group).server(&arguments.server.url).config(config).partition_ids(ids).start()?;
    let name = name_of(&worker).await?;
    tracing::info!(name, "takes part");

    // What a limit has removed is said, and the partition goes on behind it.
    let mut delivery =
        Delivery::new(&arguments.stream, &arguments.subject).on_misfit(Policy::Stop, Policy::Stop, Policy::Earliest);
    if let Some(engine) = arguments.engine {
        delivery = delivery.engine(match engine {
            How::Log => Engine::Log,
            How::Queue => Engine::Queue,
        });
    }
    if let Some(subject) = arguments.dead_letters {
        delivery = delivery.dead_letters(subject, 5);
    }
    let client = async_nats::connect(&arguments.server.url).await?;
    let consumer = delivery.start(worker, client).await?;

    let (stopper, mut told) = (consumer.stopper(), common::StopSignal::new());
    tokio::spawn(async move {
        told.received().await;
        match arguments.on_sigterm {
            Stop::Leave => stopper.stop(),
            Stop::Restart => stopper.restart(),
        }
    });
    let work = Duration::from_millis(arguments.work);
    consumer.run(move |message| handle(message, name.clone(), work)).await?;
    Ok(())
}

/// Works on one message.
async fn handle(message: Delivered, name: String, work: Duration) -> Result<(), String> {
    let number: u64 = String::from_utf8_lossy(message.payload()).trim().parse().map_err(|_| "no number".to_owned())?;
    say("begin", &message, &name, number);
    if !work.is_zero() {
        tokio::time::sleep(work).await;
    }
    say("end", &message, &name, number);
    Ok(())
}

fn say(event: &str, message: &Delivered, name: &str, number: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let (partition, sequence) = (message.partition().as_str(), message.sequence().value());
    let token = message.token().to_string();
    let said =
        json!({ "ev": event, "w": name, "p": partition, "seq": sequence, "n": number, "token": token, "t": now });
    // An error means that nobody reads it.
    let _ = writeln!(std::io::stdout(), "{said}");
}

/// The name of the worker's slot, once it has one.
async fn name_of(worker: &Handle) -> Result<String, parti_nats::Error> {
    let has_slot = |status: &parti_nats::Status| status.slot.is_some() || status.state == WorkerState::Shutdown;
    let status = worker.wait_for("a slot", Duration::from_secs(600), has_slot).await?;
    Ok(status.slot.map(parti_nats::Slot::worker_name).unwrap_or_default())
}
