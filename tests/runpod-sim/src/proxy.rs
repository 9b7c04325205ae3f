//! `ANY /proxy/{worker}-{port}/{path}`: a worker's HTTP port, over TCP, without authentication.
//!
//! Bodies stream both ways. It knows nothing of files: what a worker does not serve is not there.
//! Errors of its own are HTML pages, as the edge in front of RunPod makes them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};

use crate::process::CONTAINER_PORT;
use crate::server::Shared;

/// Headers that concern one connection only.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Cloudflare's code for an origin that does not answer in time.
const ORIGIN_TIMEOUT: u16 = 524;

/// An error page of the edge.
fn page(status: u16, what: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let title = format!("{}: {what}", status.as_u16());
    let html = format!(
        "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    );
    (status, Html(html)).into_response()
}

pub(crate) async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path();
    let rest = path.strip_prefix("/proxy/").unwrap_or_default();
    let (target, rest) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let port = match worker_port(&shared, target) {
        Ok(port) => port,
        Err(NoPort::UnknownPod) => return page(404, "pod not found"),
        Err(NoPort::NotUpYet) => return page(502, "Bad gateway"),
    };
    let query = request.uri().query();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("http://127.0.0.1:{port}{rest}{query}");
    let (parts, body) = request.into_parts();
    let site = &shared.site;
    let mut outgoing = site
        .http
        .request(parts.method.clone(), url)
        .headers(end_to_end(&parts.headers));
    let has_body = parts.headers.contains_key(header::CONTENT_LENGTH)
        || parts.headers.contains_key(header::TRANSFER_ENCODING);
    if has_body {
        outgoing = outgoing.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    let sent = tokio::select! {
        sent = outgoing.send() => sent,
        () = site.clock.sleep(site.config.proxy_timeout) => {
            return page(ORIGIN_TIMEOUT, "A timeout occurred");
        }
    };
    match sent {
        Ok(incoming) => {
            let status = incoming.status();
            let headers = end_to_end(incoming.headers());
            let mut response = Response::new(Body::from_stream(incoming.bytes_stream()));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(error) if error.is_timeout() && !error.is_connect() => {
            page(ORIGIN_TIMEOUT, "A timeout occurred")
        }
        Err(_) => page(502, "Bad gateway"),
    }
}

/// Why there is no port behind `{worker}-{port}`.
#[derive(Debug, Clone, Copy)]
enum NoPort {
    UnknownPod,
    NotUpYet,
}

/// The port behind `{worker}-{port}`.
fn worker_port(shared: &Arc<Shared>, target: &str) -> Result<u16, NoPort> {
    let (worker, port) = target.rsplit_once('-').ok_or(NoPort::UnknownPod)?;
    let port: u16 = port.parse().map_err(|_| NoPort::UnknownPod)?;
    let endpoint = shared
        .endpoints
        .of_worker(worker)
        .ok_or(NoPort::UnknownPod)?;
    match endpoint.look(|state, _| state.worker(worker).map(|worker| worker.port)) {
        None => Err(NoPort::UnknownPod),
        Some(None) => Err(NoPort::NotUpYet),
        Some(Some(real)) if port != real && port != CONTAINER_PORT => Err(NoPort::UnknownPod),
        Some(Some(real)) => Ok(real),
    }
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !HOP_BY_HOP.contains(name) && name != header::HOST {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
