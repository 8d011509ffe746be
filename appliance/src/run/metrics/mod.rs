//! Metrics for Prometheus: `GET /metrics` over HTTP, read only, on a thread of its own.
//!
//! Whoever reaches the address may read; nothing can be changed. There are so many connections at once and no more, each is for one
//! request and ends soon, and what a client does takes nothing from the workers.

mod families;
mod page;

use super::control::Control;
use crate::output::Failure;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::TEXT_FORMAT;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Where the metrics are.
pub(crate) const PATH: &str = "/metrics";
/// Connections at once; more wait in the kernel's queue.
const CLIENTS_MAX: usize = 16;
/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of a request's head, which hyper wants to be no less.
const HEAD_MAX: usize = 8192;

/// A bound address.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(super) listener: TcpListener,
}

impl Metrics {
    /// Binds it.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that says what to do.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(Self { listener })
        });
        bound.map_err(|error| {
            Failure::failed(format!(
                "bind {address} for metrics: {error}; give `management.metrics.listen` an address of this machine and a free port"
            ))
        })
    }

    /// Answers clients until the process ends.
    ///
    /// # Errors
    /// When no thread or no event queue can be had.
    pub(crate) fn serve(self, control: &Arc<Control>) -> io::Result<()> {
        let control = Arc::clone(control);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let body = move || runtime.block_on(accept(self.listener, control));
        std::thread::Builder::new().name("nva-metrics".into()).spawn(body).map(drop)
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let seats = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: they come back as clients leave.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            let _seat = seat;
            let service = service_fn(|request| std::future::ready(answer(&request, &control)));
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .keep_alive(false)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // A client that is slow or gone takes its connection with it and nothing else.
            let _ = tokio::time::timeout(PATIENCE, connection).await;
        });
    }
}

fn answer(request: &Request<Incoming>, control: &Control) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (_, path) if path != PATH => (StatusCode::NOT_FOUND, format!("metrics are at {PATH}\n")),
        (&Method::GET | &Method::HEAD, _) => (StatusCode::OK, page::page(control)),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "metrics can only be read: GET\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}
