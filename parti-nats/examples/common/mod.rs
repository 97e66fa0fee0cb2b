//! What every example has: a server to connect to, a log of what it waits for, and an end when it is asked to stop.

use clap::{Args, Command, FromArgMatches};
use parti_nats::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Where the server is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Server {
    /// The NATS server with JetStream, or several separated by commas.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub(crate) url: String,
}

/// The whole command line of an example that needs a server and nothing else.
#[allow(dead_code)] // others have more to ask for
pub(crate) fn server(about: &'static str) -> String {
    let given = Server::augment_args(Command::new("example")).about(about).get_matches();
    Server::from_arg_matches(&given).unwrap_or_else(|error| error.exit()).url
}

/// Writes to standard error what the worker has to say.
pub(crate) fn log() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
}

/// Lets a worker hand everything over and leave at SIGTERM, as a platform sends it, or Ctrl-C.
#[allow(dead_code)] // others choose how to stop
pub(crate) fn stop_when_told(worker: &Handle) {
    let (worker, mut told) = (worker.stopper(), StopSignal::new());
    tokio::spawn(async move {
        told.received().await;
        worker.stop();
    });
}

/// SIGTERM or Ctrl-C.
pub(crate) struct StopSignal([Signal; 2]);

impl StopSignal {
    /// Waits for them from now on. Needs a runtime.
    pub(crate) fn new() -> Self {
        Self(
            [SignalKind::terminate(), SignalKind::interrupt()]
                .map(|kind| signal(kind).expect("the runtime must be able to wait for signals")),
        )
    }

    /// Returns when one has come. Cancel-safe.
    pub(crate) async fn received(&mut self) {
        let [terminate, interrupt] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
