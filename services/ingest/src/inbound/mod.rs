//! The entrances: one file for each resource over HTTP, and one for the submissions queue.
//!
//! Each file names its routes and describes them; the OpenAPI document is made from the same ([`docs`]).

mod admin;
mod deliveries;
pub(crate) mod docs;
mod doctor;
mod edge;
mod endpoint_calls;
mod endpoints;
mod events;
mod hooks;
mod jobs;
mod old;
mod outputs;
mod planned;
mod query;
mod submissions;
mod uploads;

use crate::bodies::Bodies;
use crate::core::Ingest;
use crate::problems::{self, Arriving};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use photofinish_contract::request::BODY_BYTES_MAX;
use std::sync::Arc;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

/// Routes with their description.
type Routes = OpenApiRouter<Arc<Ingest>>;

/// Every route there is.
fn api() -> Routes {
    Routes::default()
        .merge(jobs::routes())
        .merge(planned::routes())
        .merge(outputs::routes())
        .merge(events::routes())
        .merge(uploads::routes())
        .merge(endpoints::routes())
        .merge(endpoint_calls::routes())
        .merge(deliveries::routes())
        .merge(admin::routes())
        .merge(doctor::routes())
        .merge(hooks::routes())
        .merge(old::routes())
        .merge(docs::routes())
}

/// The whole API.
pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    let (router, _) = api().split_for_parts();
    let http = &ingest.config.http;
    let bounds = edge::Bounds {
        body: Arriving {
            timeout: http.body_timeout,
            bodies: Bodies::new(http.bodies_bytes_max),
        },
        request: http.request_timeout,
    };
    let cors = option_layer(edge::cors(http));
    let router = router
        .fallback(problems::not_found)
        .method_not_allowed_fallback(problems::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(problems::panicked))
        .layer(from_fn_with_state(bounds, edge::bounded))
        .layer(from_fn(edge::observed))
        .layer(cors)
        .layer(edge::gzip());
    router.with_state(ingest)
}
