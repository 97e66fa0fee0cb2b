//! A worker that polls: each partition is a folder, whose files are worked on and removed. A table, a mailbox or an API
//! that has to be asked is the same.
//!
//! ```sh
//! mkdir -p inbox/eu inbox/us && echo hello > inbox/eu/1
//! cargo run -p parti-example-services --bin polling -- --inbox inbox
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use parti_nats::{Builder, PartitionGuard};

/// The pause where there is nothing to do.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Parser)]
#[command(about = "One worker that works on the files in its folders, and removes them")]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// Where the folders are: `eu`, `us` and `asia`. Made if they are not there.
    #[arg(long, default_value = "inbox")]
    inbox: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { server, inbox } = Arguments::parse();
    common::log();
    let mut worker = Builder::new("inbox").server(server.url).partition_ids(["eu", "us", "asia"]).start()?;
    common::stop_when_told(&worker);
    let inbox = Arc::new(inbox);
    Ok(worker.run(move |guard| poll(guard, Arc::clone(&inbox))).await?)
}

/// Polls one folder while it is this worker's. An error ends the work: the partition is offered again after a pause, and
/// goes to another worker if that does not help.
async fn poll(guard: impl PartitionGuard, inbox: Arc<PathBuf>) -> io::Result<()> {
    let folder = inbox.join(guard.partition().as_str());
    tokio::fs::create_dir_all(&folder).await?;
    while guard.may_work().await {
        let files = files(&folder).await?;
        let pause = if files.is_empty() { PAUSE } else { Duration::ZERO };
        for file in files {
            // Between two units of work is the time to let go.
            if !guard.is_valid() || !guard.may_work().await {
                break;
            }
            println!("{}: {}", guard.partition(), tokio::fs::read_to_string(&file).await?.trim());
            // A process that ends before this line works on the file again, wherever the partition is then.
            tokio::fs::remove_file(&file).await?;
        }
        guard.unless_interrupted(guard.sleep(pause)).await;
    }
    Ok(())
}

/// The files of a folder, by name.
async fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut entries, mut files) = (tokio::fs::read_dir(folder).await?, Vec::new());
    while let Some(entry) = entries.next_entry().await? {
        files.push(entry.path());
    }
    files.sort();
    Ok(files)
}
