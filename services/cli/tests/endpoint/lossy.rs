//! A proxy before REST v2 that passes every call on, counts it, and loses the answers it is told to lose.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::task::JoinSet;

#[derive(Debug)]
struct Seat {
    upstream: String,
    http: reqwest::Client,
    lose: Mutex<Vec<Method>>,
    seen: Mutex<Vec<Method>>,
}

pub(crate) struct Lossy {
    pub(crate) base: String,
    seat: Arc<Seat>,
    _serving: JoinSet<()>,
}

impl Lossy {
    /// Loses the answer of the first call of each method, once each.
    pub(crate) async fn start(upstream: &str, lose: &[Method]) -> Self {
        let seat = Arc::new(Seat {
            upstream: upstream.to_owned(),
            http: photofinish_kit::client().unwrap(),
            lose: Mutex::new(lose.to_vec()),
            seen: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(Arc::clone(&seat));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            base,
            seat,
            _serving: serving,
        }
    }

    /// How many calls of a method came by.
    pub(crate) fn count(&self, method: &Method) -> usize {
        let seen = self.seat.seen.lock().unwrap();
        seen.iter().filter(|one| *one == method).count()
    }
}

async fn pass(State(seat): State<Arc<Seat>>, request: Request) -> Response {
    let method = request.method().clone();
    seat.seen.lock().unwrap().push(method.clone());
    let path = request.uri().path_and_query().unwrap().as_str().to_owned();
    let key = request.headers()[header::AUTHORIZATION].clone();
    let body: Bytes = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    let call = seat
        .http
        .request(method.clone(), format!("{}{path}", seat.upstream));
    let call = call.header(header::AUTHORIZATION, key);
    let answer = call.body(body).send().await.unwrap();
    let lost = {
        let mut lose = seat.lose.lock().unwrap();
        let at = lose.iter().position(|one| *one == method);
        at.map(|at| lose.remove(at)).is_some()
    };
    if lost {
        return (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response();
    }
    let (status, bytes) = (answer.status(), answer.bytes().await.unwrap());
    (status, Body::from(bytes)).into_response()
}
