//! Private nats-servers for tests and examples: each on a port and with a store directory of its own, ended with its
//! owner.
#![allow(dead_code)] // every user needs another part of it

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parti_core::Config;

/// How long a server may take to listen, on a machine that does much else.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a server that could not start is started again: somebody outside may have been on its port for a moment.
const STARTS: u32 = 3;
/// How long three servers may take to be a cluster before they are started again: now and then they do not find each other.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// Where ports are taken from: below those that systems give to whoever asks for any, such as clients, which could
/// else take the port of a server that is to come back.
const PORTS: Range<u16> = 20_000..32_768;

/// One server with JetStream, unless it was started without.
#[derive(Debug)]
pub(crate) struct Server {
    port: Port,
    /// By which it is told from any other server.
    name: String,
    arguments: Vec<String>,
    directory: PathBuf,
    process: Option<Child>,
    /// Where other servers of its cluster reach it.
    route: Option<u16>,
}

/// A new folder for one test, which removes it. Not by the crate `tempfile`, which every build of an example would have to
/// wait for.
pub(crate) fn folder() -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    // A name may be left over from a process that had this one's number and was killed.
    loop {
        let name = format!("parti-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        match std::fs::create_dir(&folder) {
            Ok(()) => return folder,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("the temporary directory must be writable: {error}"),
        }
    }
}

/// A port that no other test takes as long as this lives, whatever listens on it meanwhile.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// The port of the same number for datagrams, which nobody needs: a lock between all tests of this machine.
    _lock: UdpSocket,
}

/// Three servers in one cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    _routes: [Port; 3],
    /// Where each says whether it takes part.
    monitors: [Port; 3],
}

impl Server {
    /// A server with JetStream.
    pub(crate) fn start() -> Self {
        Self::start_with(&["-js"])
    }

    /// A server with these arguments besides its address and its store.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::launch(Port::take(), None, arguments)
    }

    /// A server with JetStream on this port.
    pub(crate) fn start_at(port: Port) -> Self {
        Self::launch(port, None, &["-js"])
    }

    /// A server with this configuration, written into a file, besides its address and its store.
    pub(crate) fn start_with_config(config: &str) -> Self {
        let mut server = Self::prepare(Port::take());
        let path = server.directory.join("nats.conf");
        server.configure(config);
        server.arguments = vec!["-c".to_owned(), path.to_string_lossy().into_owned()];
        server.resume();
        server
    }

    /// Gives a server that was started with a configuration another one, and has it read that without a restart.
    pub(crate) fn reload(&self, config: &str) {
        self.configure(config);
        let process = self.process.as_ref().expect("it runs");
        let id = rustix::process::Pid::from_child(process);
        rustix::process::kill_process(id, rustix::process::Signal::HUP).expect("a child can be signalled");
    }

    fn configure(&self, config: &str) {
        // A server whose name is not in the file does not read it again, nor do old ones without that of their store.
        let config = format!("server_name: {}\nstore_dir: \"{}\"\n{config}", self.name, self.directory.display());
        std::fs::write(self.directory.join("nats.conf"), config).expect("the temporary directory must be writable");
    }

    fn launch(port: Port, route: Option<&Port>, arguments: &[&str]) -> Self {
        let mut server = Self::prepare(port);
        server.route = route.map(|route| route.number);
        let store = ["-sd".to_owned(), server.directory.to_string_lossy().into_owned()];
        server.arguments = store.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect();
        server.resume();
        server
    }

    fn prepare(port: Port) -> Self {
        let directory = folder();
        let name = directory.file_name().expect("it has a name").to_string_lossy().into_owned();
        Self { port, name, arguments: Vec::new(), directory, process: None, route: None }
    }

    /// Where clients connect to.
    pub(crate) fn url(&self) -> String {
        self.port.url()
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port.number
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Ends the process at once; the store stays.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    /// Asks the process to end, and waits until it has; the store stays.
    pub(crate) fn stop(&mut self) {
        self.signal("-TERM");
        let mut process = self.process.take().expect("it runs");
        process.wait().expect("a child can be waited for");
    }

    /// Stops the process where it is: it answers nothing, and connections stand.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets the process run on after [`freeze`](Self::freeze).
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &process]).status().expect("there is a kill");
        assert!(sent.success(), "kill {signal} {process}");
    }

    /// Takes the store away from a server that was killed.
    pub(crate) fn lose_store(&mut self) {
        assert!(self.process.is_none(), "a server that runs keeps its store");
        std::fs::remove_dir_all(&self.directory).expect("the store is this server's own");
        std::fs::create_dir_all(&self.directory).expect("the temporary directory must be writable");
    }

    /// Makes a copy of the store of a server that was killed.
    pub(crate) fn back_up(&self) {
        assert!(self.process.is_none(), "a server that runs changes its store");
        copy(&self.directory, &self.backup());
    }

    /// Gives a server that was killed the copy of its store that was made last, in place of what it has.
    pub(crate) fn restore(&mut self) {
        self.lose_store();
        std::fs::remove_dir(&self.directory).expect("it is empty");
        copy(&self.backup(), &self.directory);
    }

    fn backup(&self) -> PathBuf {
        self.directory.with_extension("backup")
    }

    /// Starts the process again, on the same port and with the same store.
    pub(crate) fn resume(&mut self) {
        for _ in 0..STARTS {
            self.kill();
            let process = Command::new(&*BINARY)
                .args(["-a", "127.0.0.1", "-p", &self.port().to_string(), "--name", &self.name])
                .args(["-l".as_ref(), self.log().as_os_str()])
                .args(&self.arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            self.process = Some(process.expect("nats-server must be executable"));
            if self.listens() {
                return;
            }
        }
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        panic!("nats-server does not start on {}, {STARTS} times: {log}", self.url());
    }

    fn log(&self) -> PathBuf {
        self.directory.join("nats.log")
    }

    /// Waits until the process listens, to clients and to the servers of its cluster; false if it has ended.
    ///
    /// A server listens to clients first, and ends when it cannot listen to servers: who asked only as a client would go on
    /// with a cluster of two.
    fn listens(&mut self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let ended = self.process.as_mut().is_none_or(|process| process.try_wait().is_ok_and(|end| end.is_some()));
            if ended {
                return false;
            }
            let name = format!("\"{}\"", self.name);
            let is_heard = |port| greeting(port).is_ok_and(|greeting| greeting.contains(&name));
            if is_heard(self.port()) && self.route.is_none_or(is_heard) {
                return true;
            }
            assert!(Instant::now() < deadline, "nats-server does not listen on {} after {START_TIMEOUT:?}", self.url());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What whoever listens on a port says first; a server says its name.
fn greeting(port: u16) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, START_TIMEOUT)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

/// Whether the server that is monitored there has JetStream, and is in contact with the one that leads its cluster.
fn is_healthy(monitor: u16) -> io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, monitor));
    let mut stream = TcpStream::connect_timeout(&address, START_TIMEOUT)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.contains(" 200 "))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // What is left behind is in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.directory);
        let _ = std::fs::remove_dir_all(self.backup());
    }
}

impl Cluster {
    /// Three servers with JetStream that are a cluster. Buckets can be created a moment later.
    pub(crate) fn start() -> Self {
        Self::start_over(|_, _, port| format!("nats://127.0.0.1:{port}"))
    }

    /// The same. One server (the first number) reaches another (the second) only where `route` says, which is told the
    /// port that it listens on for that; and each client knows only the server that it was given.
    pub(crate) fn start_over(mut route: impl FnMut(usize, usize, u16) -> String) -> Self {
        let (routes, monitors) = ([(); 3].map(|()| Port::take()), [(); 3].map(|()| Port::take()));
        let mut servers = Vec::new();
        for (from, own) in routes.iter().enumerate() {
            let others = routes.iter().enumerate().filter(|(to, _)| *to != from);
            let ways: Vec<_> = others.map(|(to, port)| route(from, to, port.number)).collect();
            let (address, ways, monitor) = (own.url(), ways.join(","), monitors[from].number.to_string());
            let mut arguments = vec!["-js", "--cluster_name", "parti", "--cluster", &address, "--routes", &ways];
            arguments.extend(["-m", &monitor]);
            // Nobody learns of another way.
            arguments.extend(["--no_advertise", "--cluster_advertise", "127.0.0.1:9"]);
            servers.push(Server::launch(Port::take(), Some(own), &arguments));
        }
        let mut cluster = Self { servers, _routes: routes, monitors };
        cluster.form();
        cluster
    }

    /// Waits until every server is in contact with the one that leads, and starts all of them again where that never comes.
    fn form(&mut self) {
        for _ in 0..STARTS {
            let deadline = Instant::now() + FORM_TIMEOUT;
            while Instant::now() < deadline {
                if self.monitors.iter().all(|monitor| is_healthy(monitor.number).unwrap_or(false)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            self.servers.iter_mut().for_each(Server::kill);
            self.servers.iter_mut().for_each(Server::resume);
        }
        let logs = self.servers.iter().map(|server| std::fs::read_to_string(server.log()).unwrap_or_default());
        panic!("three servers are no cluster:\n{}", logs.collect::<Vec<_>>().join("\n"));
    }

    /// The server that calls itself `name`.
    pub(crate) fn server(&mut self, name: &str) -> &mut Server {
        self.servers.iter_mut().find(|server| server.name == name).expect("a server of this cluster")
    }

    /// All servers, separated by commas.
    pub(crate) fn urls(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }
}

impl Port {
    /// A port that nobody uses.
    pub(crate) fn take() -> Self {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let count = u32::from(PORTS.end - PORTS.start);
        // Processes begin at different places, and each goes on to ports that it has not had yet.
        let begin = std::process::id().wrapping_mul(101);
        for _ in 0..count {
            let next = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % count;
            let number = PORTS.start + u16::try_from(next).expect("fewer ports than 65 536");
            let Ok(lock) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("none of the ports {PORTS:?} is free");
    }

    /// Where clients of a server that listens on it connect to.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.number)
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-R").args([from, to]).status().expect("there is a cp");
    assert!(copied.success(), "cp -R {} {}", from.display(), to.display());
}

/// The server to test with: the one named by `NATS_SERVER`, or what `scripts/nats-server` finds or fetches.
static BINARY: LazyLock<PathBuf> = LazyLock::new(|| binary().expect("scripts/nats-server must find a nats-server"));

fn binary() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return Ok(named.into());
    }
    // Examples that are crates of their own lie deeper.
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("scripts/nats-server"));
    let script = above.find(|script| script.is_file()).ok_or_else(|| io::Error::other("no scripts/nats-server"))?;
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
