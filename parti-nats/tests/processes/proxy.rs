//! A way to a server that can be cut, or swallow everything.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Passes on bytes between clients and one server, as long as it is told to.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    server: u16,
    condition: Mutex<Condition>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Condition {
    way: Way,
    /// Both ends of each connection.
    connections: Vec<TcpStream>,
}

/// What becomes of bytes on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// They arrive.
    #[default]
    Open,
    /// They wait, and so do new connections; nobody is told.
    Blackhole,
    /// Connections are closed, and new ones too.
    Cut,
}

impl Proxy {
    /// A proxy before the server that listens on this port of this machine.
    pub(crate) fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has free ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let line = Arc::new(Line { server, condition: Mutex::default(), changed: Condvar::new() });
        let of_listener = Arc::clone(&line);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let line = Arc::clone(&of_listener);
                std::thread::spawn(move || line.connect(client));
            }
        });
        Self { port, line }
    }

    /// Where clients connect to.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Changes what becomes of bytes from now on.
    pub(crate) fn set(&self, way: Way) {
        let mut condition = self.line.condition();
        condition.way = way;
        if way == Way::Cut {
            for connection in condition.connections.drain(..) {
                // An error means that it is closed already.
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        self.line.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Way::Cut);
    }
}

impl Line {
    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().expect("nobody panics while it is locked")
    }

    /// Connects a client, once the way is open.
    fn connect(self: Arc<Self>, client: TcpStream) {
        if !self.is_open_at_last() {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else { return };
        let copies = || Ok::<_, std::io::Error>([client.try_clone()?, server.try_clone()?, client.try_clone()?]);
        let Ok([to_client, to_server, kept]) = copies() else { return };
        // Bytes are passed on as they come, as if nobody stood between.
        let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
        let mut condition = self.condition();
        condition.connections.push(kept);
        condition.connections.extend(to_server.try_clone());
        drop(condition);
        let other = Arc::clone(&self);
        std::thread::spawn(move || other.copy(client, to_server));
        self.copy(server, to_client);
    }

    /// Passes bytes on until one end closes.
    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if !self.is_open_at_last() || to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        for end in [from, to] {
            // An error means that it is closed already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Waits while bytes are swallowed. False if the way is cut.
    fn is_open_at_last(&self) -> bool {
        let swallows = |condition: &mut Condition| condition.way == Way::Blackhole;
        let condition = self.changed.wait_while(self.condition(), swallows).expect("nobody panics while it is locked");
        condition.way == Way::Open
    }
}
