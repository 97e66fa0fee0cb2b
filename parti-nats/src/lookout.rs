//! Looks from time to time at what a server does not tell of itself: which version it is after a reconnect, and that its
//! settings were changed.

use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use parti_core::Status;
use tokio::sync::watch;

use crate::clock::jittered;
use crate::connection::Connection;
use crate::server;

/// How often to look.
const PAUSE: Duration = Duration::from_secs(1);
/// How often another connection is made, while a plan is refused, to see whether the server takes larger records now.
const BETWEEN_CONNECTIONS: Duration = Duration::from_secs(4);
/// The warning that a server will not do.
const SERVER_VERSION: &str = "server_version";

/// How another connection to the same servers is made; none where the client is somebody else's.
pub(crate) type Way = Option<(Vec<ServerAddr>, ConnectOptions)>;

/// Looks until the connection is closed for good.
pub(crate) async fn look_out(connection: Connection, way: Way, status: watch::Receiver<Status>) {
    let mut version = None;
    let mut waited = Duration::ZERO;
    while status.has_changed().is_ok() {
        if connection.is_up() {
            look_at_version(&connection, &mut version);
        }
        connection.signs.forbidden.forget(&connection.signs.warnings);
        let refused = status.borrow().fleet.is_some_and(|fleet| fleet.refused);
        waited = if refused { waited + PAUSE } else { Duration::ZERO };
        if waited >= BETWEEN_CONNECTIONS && connection.is_up() {
            waited = Duration::ZERO;
            if let Some(way) = &way {
                take_new_limit(&connection, way).await;
            }
        }
        tokio::time::sleep(jittered(PAUSE)).await;
    }
}

/// Says so if the server that this client has come to will not do. It goes on: it is too late for an error.
fn look_at_version(connection: &Connection, known: &mut Option<(String, String)>) {
    let info = connection.client.server_info();
    let server = (info.server_id.clone(), info.version.clone());
    if known.as_ref() == Some(&server) {
        return;
    }
    *known = Some(server);
    let warnings = &connection.signs.warnings;
    match server::doubt(&info) {
        Some(doubt) => {
            tracing::warn!(event = SERVER_VERSION, version = info.version, "{doubt}");
            warnings.set(SERVER_VERSION, doubt);
        }
        None => {
            warnings.clear(SERVER_VERSION);
        }
    }
}

/// A server does not tell open connections that `max_payload` was changed: a new one sees it. Where it was raised, this
/// client connects anew, so that the plan that was too large can be written.
async fn take_new_limit(connection: &Connection, (servers, options): &(Vec<ServerAddr>, ConnectOptions)) {
    let own = connection.client.server_info().server_id;
    for server in servers {
        let options = options.clone().max_reconnects(1).connection_timeout(connection.request_timeout);
        let Ok(other) = options.connect(server).await else { continue };
        let info = other.server_info();
        if info.server_id != own {
            continue;
        }
        let (known, now) = (connection.client.max_payload(), info.max_payload);
        if now > known {
            tracing::info!(
                event = "max_payload_raised",
                known,
                now,
                "the server takes larger records: connecting anew"
            );
            // An error means that the client is closed, which others notice.
            let _ = connection.client.force_reconnect().await;
        }
        return;
    }
}
