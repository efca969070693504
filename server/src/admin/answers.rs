//! What the admin port says when it cannot do what it was asked: always JSON with one field, `error`.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;
use storage::StoreError;

use crate::accounts::UserFault;

/// Why a request was not done.
#[derive(Debug)]
pub struct Refusal {
    status: u16,
    why: String,
}

impl Refusal {
    /// The request is faulty.
    pub fn bad(why: impl Into<String>) -> Self {
        Self { status: 400, why: why.into() }
    }

    /// Not now.
    pub fn later(why: impl Into<String>) -> Self {
        Self { status: 503, why: why.into() }
    }

    /// The body is above its bound.
    pub fn too_large(bytes: usize) -> Self {
        Self { status: 413, why: format!("the body is larger than {bytes} bytes") }
    }

    /// The body does not end.
    pub fn too_slow() -> Self {
        Self { status: 408, why: "the body did not come in time".to_owned() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<StoreError> for Refusal {
    fn from(why: StoreError) -> Self {
        let status = match &why {
            StoreError::Exists { .. } | StoreError::Taken { .. } | StoreError::Conflict { .. } => 409,
            StoreError::TooLarge { .. } | StoreError::Directory { .. } => 400,
            StoreError::Unsupported { .. } => 501,
            passing if passing.is_passing() => 503,
            _ => 500,
        };
        if status >= 500 {
            tracing::error!(%why, "An admin request met a fault of the store");
        }
        Self { status, why: why.to_string() }
    }
}

impl From<UserFault> for Refusal {
    fn from(fault: UserFault) -> Self {
        match fault {
            UserFault::Store(why) => why.into(),
            UserFault::Exists { .. } => Self { status: 409, why: fault.to_string() },
            UserFault::Nobody { .. } => Self { status: 404, why: fault.to_string() },
            _ => Self::bad(fault.to_string()),
        }
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = error(self.status, &self.why);
        if self.status == 503 {
            use actix_web::http::header::{HeaderValue, RETRY_AFTER};
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A value as JSON.
pub fn json(status: u16, value: &impl Serialize) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).json(value)
}

fn error(status: u16, why: &str) -> HttpResponse {
    json(status, &serde_json::json!({ "error": why }))
}

/// No token, or a wrong one.
pub fn unauthorized() -> HttpResponse {
    let mut response = error(401, "this needs the header `Authorization: Bearer TOKEN`, see [admin] token_file");
    use actix_web::http::header::{HeaderValue, WWW_AUTHENTICATE};
    // RFC 6750 §3.
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"parlour admin\""));
    response
}

/// No such path.
pub async fn nowhere(request: HttpRequest) -> HttpResponse {
    error(404, &format!("there is nothing at {}", request.path()))
}

/// A path that knows other methods.
pub async fn wrong_method(request: HttpRequest) -> HttpResponse {
    error(405, &format!("{} does not take {}", request.path(), request.method()))
}

/// A path that a later version serves.
pub async fn not_built(what: &'static str) -> HttpResponse {
    error(501, &format!("not built into this version: {what}"))
}
