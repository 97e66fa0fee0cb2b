//! What is thrown at `parti`: each target takes any bytes at all, and panics if something is wrong.
//!
//! There are two ways to drive them. `cargo fuzz run TARGET fuzz/seeds/TARGET --features libfuzzer`, with nightly Rust,
//! finds its way by coverage. `cargo run --release -p parti-fuzz` needs nothing but stable Rust: it replays the seeds,
//! then changes them by chance for a while.

mod bytes;
mod calculator;
mod mutate;
mod record;
mod recording;
mod worker;
mod world;

pub use calculator::calculator;
pub use mutate::mutate;
pub use record::record;
pub use recording::recording;
pub use worker::worker;
pub use world::world;

/// Something that bytes are thrown at.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its seeds' folder.
    pub name: &'static str,
    /// Takes the bytes; panics if something is wrong.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 5] = [
    Target { name: "record", run: record },
    Target { name: "recording", run: recording },
    Target { name: "calculator", run: calculator },
    Target { name: "worker", run: worker },
    Target { name: "world", run: world },
];
