//! Private nats-servers for tests and examples: each on free ports, with a store directory of its own, ended with its
//! owner.
#![allow(dead_code)] // every user needs another part of it

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parti_core::Config;

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// One server with JetStream, unless it was started without.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    arguments: Vec<String>,
    directory: PathBuf,
    process: Option<Child>,
}

/// Three servers in one cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Server {
    /// A server with JetStream.
    pub(crate) fn start() -> Self {
        Self::start_with(&["-js"])
    }

    /// A server with these arguments besides its address and its store.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::launch(free_port(), arguments.iter().map(|argument| (*argument).to_owned()).collect())
    }

    /// A server with JetStream on this port.
    pub(crate) fn start_at(port: u16) -> Self {
        Self::launch(port, vec!["-js".to_owned()])
    }

    /// A server with this configuration, written into a file, besides its address and its store.
    pub(crate) fn start_with_config(config: &str) -> Self {
        let mut server = Self::prepare(free_port(), Vec::new());
        let path = server.directory.join("nats.conf");
        std::fs::write(&path, config).expect("the temporary directory must be writable");
        server.arguments = vec!["-c".to_owned(), path.to_string_lossy().into_owned()];
        server.resume();
        server
    }

    fn launch(port: u16, arguments: Vec<String>) -> Self {
        let mut server = Self::prepare(port, arguments);
        server.resume();
        server
    }

    fn prepare(port: u16, arguments: Vec<String>) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("parti-test-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("the temporary directory must be writable");
        Self { port, arguments, directory, process: None }
    }

    /// Where clients connect to.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends the process at once; the store stays.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    /// Takes the store away from a server that was killed.
    pub(crate) fn lose_store(&mut self) {
        assert!(self.process.is_none(), "a server that runs keeps its store");
        std::fs::remove_dir_all(&self.directory).expect("the store is this server's own");
        std::fs::create_dir_all(&self.directory).expect("the temporary directory must be writable");
    }

    /// Starts the process again, on the same port and with the same store.
    pub(crate) fn resume(&mut self) {
        let process = Command::new(&*BINARY)
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"])
            .arg(&self.directory)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("nats-server must be executable"));
        self.wait_until_listening();
    }

    fn wait_until_listening(&self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let deadline = Instant::now() + START_TIMEOUT;
        while let Err(error) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            assert!(
                Instant::now() < deadline,
                "nats-server does not listen on {address} after {START_TIMEOUT:?}: {error}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // What is left behind is in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Cluster {
    /// Three servers with JetStream that know each other. Buckets can be created a moment later.
    pub(crate) fn start() -> Self {
        let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let urls: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let launch = |(index, url): (usize, &String)| {
            let name = format!("n{index}");
            let arguments =
                ["-js", "--name", &name, "--cluster_name", "parti", "--cluster", url, "--routes", &urls.join(",")];
            Server::launch(free_port(), arguments.map(str::to_owned).to_vec())
        };
        Self { servers: urls.iter().enumerate().map(launch).collect() }
    }

    /// The server that calls itself `name`.
    pub(crate) fn server(&mut self, name: &str) -> &mut Server {
        let is_it = |server: &&mut Server| server.arguments.iter().any(|argument| argument == name);
        self.servers.iter_mut().find(is_it).expect("a server of this cluster")
    }

    /// All servers, separated by commas.
    pub(crate) fn urls(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }
}

/// The server to test with: the one named by `NATS_SERVER`, or what `scripts/nats-server` finds or fetches.
static BINARY: LazyLock<PathBuf> = LazyLock::new(|| binary().expect("scripts/nats-server must find a nats-server"));

fn binary() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return Ok(named.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/nats-server");
    let output = Command::new(script).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other("no nats-server"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// Settings by which a fleet does everything quickly.
pub(crate) fn quick() -> Config {
    Config {
        lease: Duration::from_secs(2),
        settle_window: Duration::from_millis(200),
        planned_scale_window: Duration::from_secs(1),
        cold_start_window: Duration::from_secs(5),
        rebalance_interval: Duration::from_millis(200),
        release_timeout: Duration::from_secs(5),
        ..Config::default()
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}
