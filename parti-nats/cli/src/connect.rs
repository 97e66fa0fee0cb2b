//! To the server, with the flags, the variables and the contexts of the `nats` tool.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use parti_nats::async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use parti_nats::{GroupName, Observer, Operator, Picture};

use crate::arguments::{Global, Server};
use crate::context::{Context, Given, resolve};
use crate::failure::Failure;

/// Where the server is if nobody says.
const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// A connection, and what the server has complained of on it.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) group: GroupName,
    pub(crate) domain: Option<String>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Link {
    /// Connects as the flags, the variables and the context say, in this order.
    pub(crate) async fn open(global: &Global) -> Result<Self, Failure> {
        let group = group(global)?;
        let Server { url, context, timeout, js_domain, .. } = &global.server;
        let context = Context::load(context.as_deref().filter(|name| !name.is_empty()))?;
        let complaints = Arc::<Mutex<Vec<String>>>::default();
        let hearing = Arc::clone(&complaints);
        let options = options(&global.server, &context)?.event_callback(move |event| {
            if let Event::ServerError(error) = event {
                let said = parti_nats::harmless(error.to_string().trim_start_matches("nats: "), 200);
                let mut heard = hearing.lock().unwrap_or_else(PoisonError::into_inner);
                if heard.len() < 8 && !heard.contains(&said) {
                    heard.push(said);
                }
            }
            std::future::ready(())
        });
        let urls = url.as_deref().filter(|url| !url.is_empty()).or_else(|| context.text("url")).unwrap_or(DEFAULT_URL);
        let servers = servers(urls)?;
        let shown = servers.iter().map(|server| format!("{}:{}", server.host(), server.port()));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let options = login(&servers, options);
        let connecting = tokio::time::timeout(*timeout + Duration::from_secs(1), options.connect(servers));
        let client = match connecting.await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                return Err(Failure::cannot_tell(match error.kind() {
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => format!(
                        "tried to connect to {shown}: the server refuses these credentials: correct --creds, --nkey, --user, --token or the context"
                    ),
                    _ => format!(
                        "tried to connect to {shown}: {error}: start the server, or name another one with --server, NATS_URL or --context"
                    ),
                }));
            }
            Err(_) => {
                return Err(Failure::cannot_tell(format!(
                    "tried to connect to {shown}: no answer within {timeout:?}: name another server, or wait longer with --timeout"
                )));
            }
        };
        let domain = js_domain.clone().or_else(|| context.text("jetstream_domain").map(str::to_owned));
        Ok(Self { client, group, domain, complaints })
    }

    /// Begins to look at the group.
    pub(crate) async fn observe(&self) -> Result<Observer, Failure> {
        let opened = match &self.domain {
            None => Observer::open(self.client.clone(), &self.group).await,
            Some(domain) => Observer::open_in_domain(self.client.clone(), &self.group, domain).await,
        };
        opened.map_err(|error| self.explained(error.into()).trying(&format!("read the group {}", self.group)))
    }

    /// Begins to operate on the group.
    pub(crate) async fn operate(&self) -> Result<Operator, Failure> {
        let opened = match &self.domain {
            None => Operator::open(self.client.clone(), &self.group).await,
            Some(domain) => Operator::open_in_domain(self.client.clone(), &self.group, domain).await,
        };
        opened.map_err(|error| self.explained(error.into()).trying(&format!("open the group {}", self.group)))
    }

    /// The same failure, and what the server has said meanwhile.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.is_empty() {
            return failure;
        }
        let text = format!("{}; the server says: {}", failure.text, complaints.join("; "));
        Failure { text, ..failure }
    }
}

/// Looks at the group once.
pub(crate) async fn picture(global: &Global) -> Result<Picture, Failure> {
    let link = Link::open(global).await?;
    Ok(link.observe().await?.snapshot())
}

fn group(global: &Global) -> Result<GroupName, Failure> {
    let missing = || Failure::usage("a group must be named: give --group NAME, or set PARTI_GROUP");
    global.group.clone().ok_or_else(missing)
}

/// Each URL; one that cannot be read is named by its place, as it may hold a password.
fn servers(urls: &str) -> Result<Vec<ServerAddr>, Failure> {
    let read = |(at, url): (usize, &str)| {
        let bad = |_| {
            Failure::usage(format!(
                "a server must look like nats://host:4222, but the one at place {} does not",
                at + 1
            ))
        };
        url.trim().parse().map_err(bad)
    };
    urls.split(',').enumerate().map(read).collect()
}

/// The user and the password that a URL has.
fn login(servers: &[ServerAddr], options: ConnectOptions) -> ConnectOptions {
    let found = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    match found {
        Some((user, Some(password))) => options.user_and_password(user.to_owned(), password.to_owned()),
        Some((token, None)) => options.token(token.to_owned()),
        None => options,
    }
}

fn options(server: &Server, context: &Context) -> Result<ConnectOptions, Failure> {
    let given = |flag: &Option<String>, field: &'static str| -> Result<Option<Given>, Failure> {
        match flag.as_deref().or_else(|| context.text(field)) {
            Some(value) => resolve(field, value).map(Some),
            None => Ok(None),
        }
    };
    let mut options = match given(&server.creds, "creds")? {
        Some(Given::Plain(path)) => {
            readable("creds", &path)?;
            parti_nats::credentials_file(path)
        }
        Some(Given::Content(text)) => ConnectOptions::with_credentials(&text)
            .map_err(|_| Failure::usage("creds must hold a JWT and a seed, as `nsc generate creds` writes them"))?,
        None => ConnectOptions::new(),
    };
    if let Some(seed) = given(&server.nkey, "nkey")? {
        options = options.nkey(content("nkey", seed)?.trim().to_owned());
    }
    let text = |given: Given| match given {
        Given::Plain(text) | Given::Content(text) => text,
    };
    let (user, password) = (given(&server.user, "user")?.map(text), given(&server.password, "password")?.map(text));
    let token = given(&server.token, "token")?.map(text);
    options = match (user, password, token) {
        (Some(user), Some(password), _) => options.user_and_password(user, password),
        (_, _, Some(token)) | (Some(token), None, None) => options.token(token),
        (None, _, None) => options,
    };
    options = tls(server, context, options)?;
    if let Some(prefix) = server.inbox_prefix.as_deref().or_else(|| context.text("inbox_prefix")) {
        options = options.custom_inbox_prefix(prefix);
    }
    let timeout = server.timeout;
    Ok(options.name("parti").connection_timeout(timeout).request_timeout(Some(timeout)))
}

fn tls(server: &Server, context: &Context, mut options: ConnectOptions) -> Result<ConnectOptions, Failure> {
    let path = |flag: &Option<String>, field: &'static str| -> Result<Option<PathBuf>, Failure> {
        let Some(value) = flag.as_deref().or_else(|| context.text(field)) else { return Ok(None) };
        match resolve(field, value)? {
            Given::Plain(path) => {
                readable(field, &path)?;
                Ok(Some(path.into()))
            }
            Given::Content(_) => Err(Failure::usage(format!("{field} must be a file: name it by its path or file://"))),
        }
    };
    if let Some(authority) = path(&server.tlsca, "ca")? {
        options = options.add_root_certificates(authority);
    }
    match (path(&server.tlscert, "cert")?, path(&server.tlskey, "key")?) {
        (Some(certificate), Some(key)) => options = options.add_client_certificate(certificate, key),
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            return Err(Failure::usage("--tlscert and --tlskey belong together: give both"));
        }
    }
    Ok(if server.tlsfirst || context.flag("tls_first") { options.tls_first() } else { options })
}

/// The text of a secret that is given as a file or as itself.
fn content(what: &str, given: Given) -> Result<String, Failure> {
    match given {
        Given::Content(text) => Ok(text),
        Given::Plain(path) => std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!("{what} must be a file that can be read, but {path} cannot: {error}"))
        }),
    }
}

fn readable(what: &str, path: &str) -> Result<(), Failure> {
    std::fs::File::open(path)
        .map(drop)
        .map_err(|error| Failure::usage(format!("{what} must be a file that can be read, but {path} cannot: {error}")))
}
