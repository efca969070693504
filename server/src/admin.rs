//! The admin port: health, metrics, the tree, the log filter, users, backup. For operators, never public.
//!
//! `/healthz`, `/readyz` and `/metrics` are open, all else needs `Authorization: Bearer TOKEN`. Answers are JSON but
//! for health, metrics and the filter. It opens first and closes last, so that a start and an end can be watched.
//!
//! Bounds: [`limits::ADMIN_CONNECTIONS_MAX`] connections, a head within [`limits::HEAD_TIME_MAX`], a body within
//! [`BODY_TIME`] and [`limits::ADMIN_BODY_BYTES_MAX`]; no body is read before the token was seen.

mod answers;
pub mod token;
mod users;

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, ContentType};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpResponse, HttpServer, web};
use base::{Aor, limits};
use futures_util::StreamExt;
use serde::Deserialize;
use storage::Store;

use crate::accounts::Rules;
use crate::telemetry::{Log, Source, metric};
use answers::{Refusal, json};
pub use token::Token;

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a connection stays open between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What takes a while.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the admin port asks of the house that lives behind it.
pub trait Caretaker: Send + Sync {
    /// Whether the house would serve; if not, why: starting, draining, a store that refuses.
    ///
    /// # Errors
    /// The reason, for an operator to read.
    fn ready(&self) -> Result<(), String>;

    /// The store, once it is open.
    fn store(&self) -> Option<Store>;

    /// The supervision tree: name, kind, state, restarts, mailbox depth and bound, children.
    fn tree(&self) -> Work<serde_json::Value>;

    /// An account was made, changed or removed. When the work is done, nothing of what was before is in force: no
    /// password, no binding of a removed user.
    fn account_changed(&self, aor: &Aor) -> Work<()>;
}

/// Everything that the admin port works with.
pub struct Admin {
    /// The house behind it.
    pub house: Arc<dyn Caretaker>,
    /// The log and its filter.
    pub log: Arc<Log>,
    /// Who has it, may do everything.
    pub token: Token,
    /// What makes an address one of ours.
    pub rules: Rules,
    /// Whoever has metrics.
    pub sources: Vec<Arc<dyn Source>>,
}

/// Serves on a listener that is bound already, on one thread of its own. The server ends when its handle is stopped.
///
/// # Errors
/// The listener cannot be used.
pub fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<Server> {
    let admin = web::Data::new(admin);
    let server = HttpServer::new(move || App::new().app_data(admin.clone()).configure(routes))
        .workers(1)
        .max_connections(limits::ADMIN_CONNECTIONS_MAX)
        .client_request_timeout(limits::HEAD_TIME_MAX)
        .client_disconnect_timeout(Duration::from_secs(1))
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(2)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

fn routes(app: &mut web::ServiceConfig) {
    let open = |path: &str| web::resource(path).default_service(web::to(answers::wrong_method));
    app.service(open("/healthz").route(web::get().to(healthz)).route(web::head().to(healthz)));
    app.service(open("/readyz").route(web::get().to(readyz)).route(web::head().to(readyz)));
    app.service(open("/metrics").route(web::get().to(metrics)));
    app.service(
        web::scope("")
            .wrap(from_fn(with_token))
            .service(open("/tree").route(web::get().to(tree)))
            .service(open("/log").route(web::get().to(log)).route(web::put().to(set_log)))
            .service(open("/users").route(web::get().to(users::list)).route(web::post().to(users::add)))
            .service(
                open("/users/{aor}")
                    .route(web::get().to(users::show))
                    .route(web::put().to(users::change))
                    .route(web::delete().to(users::remove)),
            )
            .service(open("/backup").route(web::post().to(backup)))
            .service(web::resource(["/rooms", "/rooms/{tail:.*}"]).to(|| answers::not_built("rooms")))
            .service(web::resource("/trace/{id}").to(|| answers::not_built("the trace")))
            .service(web::resource("/headroom").to(|| answers::not_built("the headroom")))
            .service(web::resource("/").to(|| answers::not_built("the console")))
            .default_service(web::to(answers::nowhere)),
    );
}

/// Lets pass who has the token.
async fn with_token(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let shown = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let right = request.app_data::<web::Data<Admin>>().is_some_and(|admin| admin.token.opens_for(shown));
    if right {
        next.call(request).await.map(ServiceResponse::map_into_left_body)
    } else {
        Ok(request.into_response(answers::unauthorized()).map_into_right_body())
    }
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("alive\n")
}

async fn readyz(admin: web::Data<Admin>) -> HttpResponse {
    match admin.house.ready() {
        Ok(()) => HttpResponse::Ok().content_type(ContentType::plaintext()).body("ready\n"),
        Err(why) => HttpResponse::ServiceUnavailable()
            .insert_header(("Retry-After", "1"))
            .content_type(ContentType::plaintext())
            .body(format!("{why}\n")),
    }
}

async fn metrics(admin: web::Data<Admin>) -> HttpResponse {
    let mut out = String::with_capacity(16_384);
    let ready = u8::from(admin.house.ready().is_ok());
    metric(&mut out, "parlour_ready", "gauge", "Whether the server would serve.", ready);
    for source in &admin.sources {
        source.write(&mut out);
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(out)
}

async fn tree(admin: web::Data<Admin>) -> HttpResponse {
    json(200, &admin.house.tree().await)
}

async fn log(admin: web::Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body(format!("{}\n", admin.log.filter()))
}

async fn set_log(admin: web::Data<Admin>, body: web::Payload) -> Result<HttpResponse, Refusal> {
    let body = read(body, limits::LOG_FILTER_BYTES_MAX).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Refusal::bad("the filter is not UTF-8"))?;
    admin.log.set_filter(text).map_err(|why| Refusal::bad(format!("no log filter: {why}")))?;
    tracing::info!(filter = admin.log.filter(), "Log filter changed");
    Ok(log(admin).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupTo {
    dir: PathBuf,
}

async fn backup(admin: web::Data<Admin>, body: web::Payload) -> Result<HttpResponse, Refusal> {
    let BackupTo { dir } = parse(&read(body, 65_536).await?)?;
    if !dir.is_absolute() {
        return Err(Refusal::bad(format!("{} is no absolute path", dir.display())));
    }
    store(&admin)?.backup(dir.clone()).await?;
    tracing::info!(dir = %dir.display(), "Backup taken");
    Ok(json(200, &serde_json::json!({ "dir": dir })))
}

/// The store, once it is there.
fn store(admin: &Admin) -> Result<Store, Refusal> {
    admin.house.store().ok_or_else(|| Refusal::later("the store is not open"))
}

/// A whole body, bounded in size and time.
async fn read(mut body: web::Payload, bytes: usize) -> Result<Vec<u8>, Refusal> {
    let reading = async {
        let mut read = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| Refusal::bad(format!("the body cannot be read: {error}")))?;
            if read.len() + piece.len() > bytes {
                return Err(Refusal::too_large(bytes));
            }
            read.extend_from_slice(&piece);
        }
        Ok(read)
    };
    actix_rt::time::timeout(BODY_TIME, reading).await.unwrap_or_else(|_| Err(Refusal::too_slow()))
}

/// JSON of a known shape.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not the JSON that is wanted: {error}")))
}

#[cfg(test)]
pub(crate) mod tests;
