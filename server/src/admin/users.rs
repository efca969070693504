//! `/users`: who may use this server. What is written here is in the store first, then the house is told.

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use base::limits;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use storage::{Account, Flow};

use super::answers::{Refusal, json as answer};
use super::{Admin, parse, read, store};
use crate::accounts::{self, Change, NewUser, ShownUser, parse_aor};

/// All users, one a line, page by page as the store gives them.
pub async fn list(admin: web::Data<Admin>) -> Result<HttpResponse, Refusal> {
    let flow = store(&admin)?.list_accounts();
    let lines = stream::try_unfold(Listing::Begin(flow), |listing| async {
        let (mut flow, mut out, mut separator) = match listing {
            Listing::Begin(flow) => (flow, String::from("["), "\n"),
            Listing::Further(flow, separator) => (flow, String::new(), separator),
            Listing::End => return Ok::<_, std::io::Error>(None),
        };
        loop {
            let Some(page) = flow.next_page().await.map_err(std::io::Error::other)? else {
                out.push_str("\n]\n");
                return Ok(Some((Bytes::from(out), Listing::End)));
            };
            for account in &page {
                out.push_str(separator);
                out.push_str(&serde_json::to_string(&ShownUser::from(account))?);
                separator = ",\n";
            }
            // An empty chunk would end the body (RFC 9112 §7.1).
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), Listing::Further(flow, separator))));
            }
        }
    });
    Ok(HttpResponse::Ok().content_type(ContentType::json()).streaming(Box::pin(lines)))
}

enum Listing {
    Begin(Flow<Account>),
    Further(Flow<Account>, &'static str),
    End,
}

/// One new user, or an array of them: then the good ones are taken, and each faulty one is named by its place.
pub async fn add(admin: web::Data<Admin>, body: web::Payload) -> Result<HttpResponse, Refusal> {
    let body = read(body, limits::ADMIN_BODY_BYTES_MAX).await?;
    let store = store(&admin)?;
    if body.trim_ascii_start().first() != Some(&b'[') {
        let account = accounts::add(&store, &admin.rules, &parse::<NewUser>(&body)?).await?;
        admin.house.account_changed(&account.aor).await;
        tracing::info!(users = 1, "Users added");
        return Ok(answer(201, &ShownUser::from(&account)));
    }
    let users: Vec<NewUser> = parse(&body)?;
    let (mut added, mut faults) = (0, Vec::new());
    for (at, outcome) in accounts::add_many(&store, &admin.rules, &users).await.into_iter().enumerate() {
        match outcome {
            Ok(account) => {
                admin.house.account_changed(&account.aor).await;
                added += 1;
            }
            Err(fault) => faults.push(json!({ "index": at, "aor": users[at].aor, "error": fault.to_string() })),
        }
    }
    tracing::info!(users = added, faults = faults.len(), "Users added");
    let status = if faults.is_empty() { 200 } else { 207 };
    Ok(answer(status, &json!({ "added": added, "faults": faults })))
}

/// One user.
pub async fn show(admin: web::Data<Admin>, aor: web::Path<String>) -> Result<HttpResponse, Refusal> {
    let account = accounts::find(&store(&admin)?, &parse_aor(&aor)?).await?;
    Ok(answer(200, &ShownUser::from(&account)))
}

/// Another password, other services, another limit.
pub async fn change(
    admin: web::Data<Admin>,
    aor: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let aor = parse_aor(&aor)?;
    let change: Change = parse(&read(body, 65_536).await?)?;
    if change.is_empty() {
        return Err(Refusal::bad("nothing to change: give any of password, services, history_limit"));
    }
    let account = accounts::change(&store(&admin)?, &admin.rules, &aor, &change).await?;
    admin.house.account_changed(&account.aor).await;
    tracing::info!(password = change.password.is_some(), "User changed");
    Ok(answer(200, &ShownUser::from(&account)))
}

/// Gone, with what waits for him.
pub async fn remove(admin: web::Data<Admin>, aor: web::Path<String>) -> Result<HttpResponse, Refusal> {
    let aor = parse_aor(&aor)?;
    accounts::remove(&store(&admin)?, &aor).await?;
    admin.house.account_changed(&aor).await;
    tracing::info!(users = 1, "Users removed");
    Ok(HttpResponse::NoContent().finish())
}
