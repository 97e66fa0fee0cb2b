//! The connection to NATS: opened with settings that follow from the lease, and watched.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use parti_core::{Config, KvEvent, ServerId};
use tokio::sync::watch;

use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::health::Signs;
use crate::said::{Refusals, Said};

/// The shortest wait before a reconnect; the client's own default doubles to 4 s, which would outlast a short outage.
const SHORTEST_RECONNECT_DELAY: Duration = Duration::from_millis(20);
/// The longest wait before a reconnect.
const LONGEST_RECONNECT_DELAY: Duration = Duration::from_millis(250);
/// How much of a message is not for the partitions in a record.
const RESERVED_BYTES: usize = 16 * 1024;
/// The longest wait for an answer of a healthy store.
const LONGEST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// The wait for an answer on which no lease depends, such as that a bucket was created: disks can be slow.
const PATIENT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a client that somebody else has made is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// `options` with all that follows from the lease of `config`: how soon a dead path is noticed, how long to wait for an
/// answer, how quickly to connect again.
///
/// For a client that is made here and given to [`Builder::client`](crate::Builder::client). A worker that makes its own
/// sets the same.
#[must_use]
pub fn connect_options(options: ConnectOptions, config: &Config) -> ConnectOptions {
    options
        .ping_interval(ping_interval(config))
        .connection_timeout((config.lease / 4).min(Duration::from_secs(2)))
        .request_timeout(Some(request_timeout(config)))
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
}

/// A connection, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) link: watch::Receiver<Link>,
    pub(crate) refusals: Refusals,
    pub(crate) signs: Arc<Signs>,
    /// Whether the client is nobody else's, so that it may be told to connect anew.
    pub(crate) is_own: bool,
    /// How long to wait for the answer to one request.
    pub(crate) request_timeout: Duration,
    /// The `JetStream` domain of the buckets, where it is not that of the server.
    domain: Option<Arc<str>>,
}

/// Whether the connection stands, and how often it has broken so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) up: bool,
    pub(crate) breaks: u64,
}

/// Where a connection ends, and how often its client has connected until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    connects: u64,
    pub(crate) server: ServerId,
}

impl Connection {
    /// Connects to one of `servers`, with one try at each.
    pub(crate) async fn open(
        servers: &[ServerAddr],
        options: ConnectOptions,
        config: &Config,
        signs: Arc<Signs>,
    ) -> Result<Self, Error> {
        let (sender, link) = watch::channel(Link::default());
        let (refused, refusals) = Refusals::new();
        let (hearing, waiting) = (Arc::clone(&signs), Arc::clone(&signs));
        let span = tracing::Span::current();
        let options = connect_options(with_login(servers, options), config)
            .reconnect_delay_callback(move |attempts| waiting.login.wait().unwrap_or_else(|| reconnect_delay(attempts)))
            .event_callback(move |event| {
                span.in_scope(|| {
                    sender.send_modify(|link| link.observe(&event));
                    hear(&event, &hearing, &refused);
                });
                std::future::ready(())
            });
        let client = options.connect(servers).await.map_err(|error| not_connected(servers, error))?;
        let mut connection = Self { is_own: true, ..Self::new(client, link, refusals, config, signs) };
        connection.wait_until_up().await;
        Ok(connection)
    }

    /// Takes over a client that somebody else has made; whether it stands is looked at every [`LOOK`], since only
    /// whoever makes a client hears its events.
    pub(crate) async fn adopt(client: Client, config: &Config, signs: Arc<Signs>) -> Result<Self, Error> {
        let (sender, link) = watch::channel(Link::of(&client, 0));
        let (_, refusals) = Refusals::new();
        let mut connection = Self::new(client.clone(), link, refusals, config, signs);
        tokio::spawn(async move {
            let connects = || client.statistics().connects.load(Ordering::Relaxed);
            let before = connects().max(1); // it may still have to connect for the first time
            while !sender.is_closed() {
                let now = Link::of(&client, connects().saturating_sub(before));
                sender.send_if_modified(|link| {
                    *link != now && {
                        *link = now;
                        true
                    }
                });
                tokio::time::sleep(LOOK).await;
            }
        });
        let patience = config.lease;
        match tokio::time::timeout(patience, connection.wait_until_up()).await {
            Ok(true) => Ok(connection),
            Ok(false) | Err(_) => {
                Err(Error::new(ErrorKind::Connect { servers: "the servers of the given client".into() }))
            }
        }
    }

    fn new(
        client: Client,
        link: watch::Receiver<Link>,
        refusals: Refusals,
        config: &Config,
        signs: Arc<Signs>,
    ) -> Self {
        let request_timeout = request_timeout(config);
        let jetstream = context(&client, None, request_timeout);
        Self { client, jetstream, link, refusals, signs, is_own: false, request_timeout, domain: None }
    }

    /// The same connection, for buckets in a `JetStream` domain if one is named.
    pub(crate) fn in_domain(self, domain: Option<&str>) -> Self {
        let Some(domain) = domain else { return self };
        let jetstream = context(&self.client, Some(domain), self.request_timeout);
        Self { jetstream, domain: Some(domain.into()), ..self }
    }

    /// The same subject of the API of `JetStream`, in the domain of the buckets.
    pub(crate) fn in_api(&self, subject: String) -> String {
        let Some(domain) = &self.domain else { return subject };
        subject.replacen("$JS.API", &format!("$JS.{domain}.API"), 1)
    }

    /// The same connection, for what is tried only once and has the time.
    pub(crate) fn patient(&self) -> Self {
        let jetstream = context(&self.client, self.domain.as_deref(), PATIENT_REQUEST_TIMEOUT);
        Self { jetstream, request_timeout: PATIENT_REQUEST_TIMEOUT, ..self.clone() }
    }

    /// Whether requests reach the server as far as is known here.
    pub(crate) fn is_up(&self) -> bool {
        self.link.borrow().up
    }

    /// Returns as soon as the connection stands. `false` if it never will.
    pub(crate) async fn wait_until_up(&mut self) -> bool {
        self.link.wait_for(|link| link.up).await.is_ok()
    }

    /// Where the connection ends, as far as is known here. Just after a reconnect it may still name the server before: what
    /// rests on it is asked again once something has come back.
    pub(crate) fn place(&self) -> Place {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        Place { connects, server: ServerId::new(&self.client.server_info().server_id) }
    }

    /// How many bytes a record may have, so that it fits into one message along with its headers and what a member
    /// record has besides the ids of partitions.
    pub(crate) fn record_limit(&self) -> usize {
        let payload = self.client.max_payload();
        payload - (payload / 4).min(RESERVED_BYTES)
    }

    /// Tells of what becomes of the connection from now on.
    pub(crate) fn news(&self) -> News {
        News { link: self.link.clone(), told: Link { up: true, breaks: self.breaks() } }
    }

    /// How often the connection has broken so far.
    pub(crate) fn breaks(&self) -> u64 {
        self.link.borrow().breaks
    }

    /// Returns as soon as the connection has broken more often than `breaks` times.
    pub(crate) async fn broken_since(&self, breaks: u64) {
        let mut link = self.link.clone();
        // An error means that the client is gone, which is a break as well.
        let _ = link.wait_for(|link| link.breaks > breaks).await;
    }
}

/// Tells of each break of a connection, and of each return.
#[derive(Debug)]
pub(crate) struct News {
    link: watch::Receiver<Link>,
    told: Link,
}

impl News {
    /// Waits for the next break or return. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<KvEvent, Error> {
        let told = self.told;
        let link = self.link.wait_for(|link| *link != told).await;
        let link = *link.map_err(|error| Error::with_source(ErrorKind::ConnectionClosed, error))?;
        // A break comes before the return that ended it, however quick that was.
        let broken = link.breaks > told.breaks;
        self.told = Link { up: link.up && !broken, breaks: link.breaks };
        Ok(if self.told.up { KvEvent::Restored } else { KvEvent::Lost })
    }
}

impl Link {
    /// What a look at a client shows, which has connected again `reconnects` times.
    fn of(client: &Client, reconnects: u64) -> Self {
        let up = client.connection_state() == State::Connected;
        Self { up, breaks: reconnects + u64::from(!up) }
    }

    fn observe(&mut self, event: &async_nats::Event) {
        match event {
            // Twice in a row if the client dropped the news of a break between them.
            Event::Connected => *self = Self { up: true, breaks: self.breaks + u64::from(self.up) },
            Event::Disconnected | Event::Closed => {
                *self = Self { up: false, breaks: self.breaks + u64::from(self.up) };
            }
            Event::LameDuckMode
            | Event::Draining
            | Event::SlowConsumer(_)
            | Event::ServerError(_)
            | Event::ClientError(_) => {}
        }
    }
}

/// What the client says of its connection, beyond whether it stands.
fn hear(event: &Event, signs: &Signs, refused: &watch::Sender<Said>) {
    signs.login.observe(event, &signs.warnings, signs.metrics.as_deref());
    if let Event::ServerError(error) = event {
        let message = error.to_string();
        let message = message.trim_start_matches("nats: ");
        Refusals::note(refused, message);
        signs.forbidden.observe(message, &signs.warnings);
    }
}

fn not_connected(servers: &[ServerAddr], error: ConnectError) -> Error {
    let servers = servers.iter().map(address).collect::<Vec<_>>().join(", ");
    let kind = match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => ErrorKind::Login { servers },
        _ => ErrorKind::Connect { servers },
    };
    Error::with_source(kind, error)
}

fn context(client: &Client, domain: Option<&str>, request_timeout: Duration) -> jetstream::Context {
    let context = ContextBuilder::new().timeout(request_timeout);
    match domain {
        Some(domain) => context.domain(domain).build(client.clone()),
        None => context.build(client.clone()),
    }
}

/// Reads the addresses of servers; each text may hold several, separated by commas.
pub(crate) fn parse_servers(urls: &[String]) -> Result<Vec<ServerAddr>, Error> {
    let urls = urls.iter().flat_map(|urls| urls.split(','));
    let parse = |(index, url): (usize, &str)| {
        let kind = ErrorKind::Url { place: index + 1 };
        url.trim().parse().map_err(|error| Error::with_source(kind, error))
    };
    urls.enumerate().map(parse).collect()
}

/// The same with the login that a URL has: the client itself makes nothing of what is before the host.
pub(crate) fn with_login(servers: &[ServerAddr], options: ConnectOptions) -> ConnectOptions {
    match servers.iter().find_map(login) {
        Some((user, password)) => options.user_and_password(user, password),
        None => options,
    }
}

/// The user and the password in a server's URL.
fn login(server: &ServerAddr) -> Option<(String, String)> {
    Some((server.username()?.to_owned(), server.password().unwrap_or_default().to_owned()))
}

/// The address without what may be a password.
fn address(server: &ServerAddr) -> String {
    format!("{}://{}:{}", server.scheme(), server.host(), server.port())
}

/// A renewal that gets no answer must leave time for others before the lease runs out.
fn request_timeout(config: &Config) -> Duration {
    (config.lease / 4).min(LONGEST_REQUEST_TIMEOUT)
}

/// The client gives a silent connection up after three pings without an answer, a little more than two intervals;
/// that has to be within `probe_confirm`, after which a leader may take this worker for dead.
fn ping_interval(config: &Config) -> Duration {
    (config.probe_confirm.unwrap_or(config.lease / 4) / 3).clamp(Duration::from_millis(20), Duration::from_secs(2))
}

fn reconnect_delay(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempts.min(8)).unwrap_or(8);
    clock::jittered((SHORTEST_RECONNECT_DELAY * 2_u32.pow(doublings - 1)).min(LONGEST_RECONNECT_DELAY * 2 / 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::soon;

    #[test]
    fn each_break_is_counted_once_even_if_its_news_was_dropped() {
        let mut link = Link::default();
        let mut observe = |event| {
            link.observe(&event);
            (link.up, link.breaks)
        };
        assert_eq!(observe(Event::Connected), (true, 0));
        assert_eq!(observe(Event::Disconnected), (false, 1));
        assert_eq!(observe(Event::Disconnected), (false, 1));
        assert_eq!(observe(Event::Connected), (true, 1));
        assert_eq!(observe(Event::Connected), (true, 2));
        assert_eq!(observe(Event::Closed), (false, 3));
    }

    #[tokio::test]
    async fn a_break_is_told_even_if_it_was_over_at_once() {
        let (sender, link) = watch::channel(Link { up: true, breaks: 3 });
        let mut news = News { link, told: Link { up: true, breaks: 3 } };
        sender.send_replace(Link { up: true, breaks: 5 });
        assert!(matches!(soon(news.next()).await, Ok(KvEvent::Lost)));
        assert!(matches!(soon(news.next()).await, Ok(KvEvent::Restored)));
        sender.send_replace(Link { up: false, breaks: 6 });
        assert!(matches!(soon(news.next()).await, Ok(KvEvent::Lost)));
        drop(sender);
        assert!(soon(news.next()).await.is_err());
    }

    #[test]
    fn a_dead_path_is_noticed_before_a_leader_may_take_this_worker_for_dead() {
        let config = Config::default();
        let confirm = config.probe_confirm.expect("probes are on by default");
        assert!(ping_interval(&config) * 9 / 4 < confirm);
    }

    #[test]
    fn reconnects_are_quick_but_not_all_at_once() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempts in 2..1_000 {
            let delay = reconnect_delay(attempts);
            assert!((SHORTEST_RECONNECT_DELAY..=LONGEST_RECONNECT_DELAY).contains(&delay), "{delay:?}");
        }
    }

    #[test]
    fn servers_are_read_from_lists_and_an_error_does_not_show_a_password() {
        let servers = parse_servers(&["nats://a:1, b:2".into(), "tls://user:secret@c".into()]).expect("valid");
        let shown: Vec<_> = servers.iter().map(address).collect();
        assert_eq!(shown, ["nats://a:1", "nats://b:2", "tls://c:4222"]);
        let error = parse_servers(&["a".into(), "nats://user:secret@:x".into()]).expect_err("not a URL").to_string();
        assert!(error.contains("place 2") && !error.contains("secret"), "{error}");
    }
}
