//! placeholder
mod bucket;
mod clock;
mod connection;
mod error;
mod kv;
mod probe;
mod watch;
