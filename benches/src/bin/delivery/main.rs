//! Prints what the delivery of messages takes on a real nats-server, beside a bare consumer in the same run, and whether
//! that is within the bounds that it is held to. Starts its own servers and workers on this machine, and ends them.
//!
//! ```sh
//! cargo run --release -p parti-benches --bin delivery              # about 3 minutes
//! cargo run --release -p parti-benches --bin delivery -- --quick   # about one
//! ```

#[path = "../../../../parti-nats/tests/delivery/consumers.rs"]
mod consumers;
mod moves;
mod rates;
#[path = "../../../../parti-nats/tests/support/mod.rs"]
mod support;
mod table;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use consumers::Spec;
use table::Table;

/// Measures delivery on a nats-server that it starts: `NATS_SERVER`, or what `scripts/nats-server` finds.
#[derive(Debug, Parser)]
struct Args {
    /// Print JSON besides the table, which then goes to standard error.
    #[arg(long)]
    json: bool,
    /// Fewer messages and repetitions.
    #[arg(long)]
    quick: bool,
    /// Fail if a bound is missed.
    #[arg(long)]
    check: bool,
    /// Only the parts whose name contains this: throughput, backlog, server, handoff, crash.
    #[arg(long, default_value = "")]
    only: String,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// How many messages one worker is measured with.
    messages: u64,
    /// How many messages wait for ten workers.
    backlog: u64,
    /// How often a partition moves, and a process is killed.
    repetitions: u32,
}

type Part = fn(&mut Table, Scale) -> io::Result<()>;

fn main() -> io::Result<ExitCode> {
    if let Some(spec) = Spec::from_environment() {
        consumers::run(&spec);
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let full = Scale { messages: 200_000, backlog: 1_000_000, repetitions: 20 };
    let scale = if args.quick { Scale { messages: 50_000, backlog: 100_000, repetitions: 5 } } else { full };
    let parts: [(&str, Part); 5] = [
        ("throughput", rates::throughput),
        ("backlog", rates::backlog),
        ("server", rates::server),
        ("handoff", moves::handoff),
        ("crash", moves::crash),
    ];
    let mut table = Table::new(args.json);
    table.header()?;
    for (name, part) in parts {
        if name.contains(&args.only) {
            part(&mut table, scale)?;
        }
    }
    table.footer()?;
    Ok(if args.check && !table.holds() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
