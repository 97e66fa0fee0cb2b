//! `parti dashboard`: the group as it changes, on a page of this machine's own.
//!
//! It listens on the loopback alone, answers only to its own names, under a path that nobody can guess, and only shows:
//! there is nothing on it that writes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use parti_nats::{Observer, Picture, Slot};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::arguments::{Dashboard, Global};
use crate::connect::Link;
use crate::failure::{FINE, Failure};
use crate::look::{Outlook, sentence, wish_json, worker_json};
use crate::show::{millis, print, rfc3339};

/// The page, with `NONCE` where the policy's nonce goes, and `PICTURE` where the first picture does.
const PAGE: &str = include_str!("dashboard.html");
/// The least time between two pictures.
const BETWEEN: Duration = Duration::from_millis(500);
/// After so long a picture is sent though nothing has changed: ages go on, and a page without one knows that it is stale.
const AT_LEAST: Duration = Duration::from_secs(2);

/// What every answer rests on.
struct Desk {
    observer: Observer,
    token: String,
    /// The names by which the page may be asked for.
    hosts: [String; 2],
}

pub(crate) async fn dashboard(global: &Global, dashboard: Dashboard) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    let observer = link.observe().await?;
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, dashboard.port));
    let failed = |error: std::io::Error| {
        Failure::cannot_tell(format!(
            "tried to listen on {wanted}: {error}: choose another port with --port, or 0 for any"
        ))
    };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let token = secret();
    print(&format!("http://{address}/{token}/\n"))?;
    let hosts = [address.to_string(), format!("localhost:{}", address.port())];
    let desk = Arc::new(Desk { observer, token, hosts });
    tokio::select! {
        served = async { axum::serve(listener, routes(desk)).await } => served.map(|()| FINE).map_err(failed),
        _ = tokio::signal::ctrl_c() => Ok(FINE),
    }
}

/// 128 bits that nobody else knows.
fn secret() -> String {
    // Each has keys that come from the operating system; the hash of nothing under them is as random.
    let half = || RandomState::new().hash_one(());
    format!("{:016x}{:016x}", half(), half())
}

fn routes(desk: Arc<Desk>) -> Router {
    Router::new().route("/{token}/", get(page)).route("/{token}/events", get(events)).with_state(desk)
}

impl Desk {
    /// Whether whoever asks knows the path, and calls the page by its own name: another name is that of a site whose name
    /// was made to lead here.
    fn admits(&self, token: &str, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        token == self.token && host.is_some_and(|host| self.hosts.iter().any(|own| own == host))
    }
}

async fn page(State(desk): State<Arc<Desk>>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    if !desk.admits(&token, &headers) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let nonce = secret();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    // What is stored may be anything, and must not end the element that it is in.
    let picture = document(&desk.observer.snapshot()).to_string().replace('<', "\\u003c");
    (headers, Html(PAGE.replace("NONCE", &nonce).replacen("PICTURE", &picture, 1))).into_response()
}

async fn events(State(desk): State<Arc<Desk>>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    if !desk.admits(&token, &headers) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let pictures = stream::unfold((desk, None), |(desk, before)| async move {
        if let Some(before) = before {
            tokio::time::sleep(BETWEEN).await;
            // Whether something has changed in time, the picture says.
            let _ = desk.observer.wait_for(AT_LEAST, |picture: &Picture| state(picture) != before).await;
        }
        let picture = desk.observer.snapshot();
        let event = Event::default().data(document(&picture).to_string());
        Some((Ok::<_, Infallible>(event), (desk, Some(state(&picture)))))
    });
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, Sse::new(pictures).keep_alive(KeepAlive::default())).into_response()
}

type PictureState = (u64, u64, bool);

fn state(picture: &Picture) -> PictureState {
    (picture.members.revision.value(), picture.plan.revision.value(), picture.live)
}

/// What the page draws.
fn document(picture: &Picture) -> Value {
    let outlook = Outlook::of(picture);
    let mut cells: BTreeMap<Slot, Vec<Value>> = BTreeMap::new();
    let (mut moves, mut unowned) = (Vec::new(), Vec::new());
    let partitions = picture.partitions();
    for partition in &partitions {
        let holder = partition.owner.map(|owner| owner.slot).or(partition.releasing);
        if let Some(slot) = holder {
            cells.entry(slot).or_default().push(json!([partition.id, partition.weight, partition.incoming]));
        }
        if partition.is_moving() {
            let told = partition.releasing.and_then(|slot| picture.assignments.get(&slot)).and_then(|one| one.written);
            moves.push(json!({
                "partition": partition.id, "from": holder, "to": partition.incoming,
                "since_ms": picture.age(told).map(millis),
            }));
        }
        if holder.is_none() {
            unowned.push(json!({ "partition": partition.id, "to": partition.incoming }));
        }
    }
    let workers = picture.workers.values().map(|worker| {
        let mut shown = worker_json(picture, worker);
        shown["partitions"] = cells.remove(&worker.slot).unwrap_or_default().into();
        shown
    });
    json!({
        "v": 1,
        "group": picture.group,
        "at": rfc3339(picture.taken_at),
        "live": picture.live,
        "settled": outlook.is_settled(),
        "sentence": sentence(picture, &outlook),
        "generation": picture.generation(),
        "phase": picture.head.as_ref().map(|head| head.phase),
        "partitions": partitions.len(),
        "unowned_count": picture.unowned(&partitions),
        "unowned": unowned,
        "moves": moves,
        "workers": workers.collect::<Vec<_>>(),
        "plans": plans(picture),
        "wishes": picture.wishes.iter().map(|(control, wish)| wish_json(picture, *control, wish)).collect::<Vec<_>>(),
        "unreadable": picture.unreadable.iter().map(|one| json!({ "key": one.key, "why": one.why })).collect::<Vec<_>>(),
    })
}

/// What the last plans moved, and why, the newest first.
fn plans(picture: &Picture) -> Vec<Value> {
    let Some(head) = &picture.head else { return Vec::new() };
    let plan = |plan: &parti_nats::PlanMoves| {
        let at = Some(UNIX_EPOCH + Duration::from_millis(plan.at_ms)).filter(|_| plan.at_ms > 0);
        let causes = plan.causes.iter().map(|one| json!({ "cause": one.cause.to_string(), "count": one.count }));
        json!({ "generation": plan.generation, "at": at.map(rfc3339), "causes": causes.collect::<Vec<_>>() })
    };
    head.moves.plans().iter().rev().map(plan).collect()
}
