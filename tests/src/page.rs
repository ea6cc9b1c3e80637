//! A small site: one page with a contact form, and the site's server, which captures what is submitted.
//!
//! The browser never sees the ingest key: the form is posted to the site, and the site's server posts the capture.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::Client;

/// Which site the page belongs to, and with what it talks to the host.
pub struct PageSite {
    /// The site.
    pub site: String,
    /// Its environment.
    pub environment: String,
    /// A client with the site's ingest key.
    pub ingest: Client,
    /// A client with an operator's token, for the page that shows what became of a submission.
    pub operator: Client,
}

struct Shared {
    site: PageSite,
    prefix: String,
    submissions: AtomicU64,
}

/// The running site. It stops when this is dropped.
pub struct Page {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Page {
    /// Serves the site on a loopback port (0: any free one). The ids of its captures start with `prefix`.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(site: PageSite, prefix: &str, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { site, prefix: prefix.to_owned(), submissions: AtomicU64::new(0) });
        let router = Router::new()
            .route("/", get(form))
            .route("/contact", post(submit))
            .route("/thanks/{id}", get(thanks))
            .route("/trace/{id}", get(trace))
            .with_state(shared);
        let serving = tokio::spawn(async move {
            // Serving ends only with the process; an error here is the listener's and shows as refused connections.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, serving })
    }

    /// `http://ADDRESS/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

async fn form() -> Html<&'static str> {
    Html(include_str!("page/form.html"))
}

/// The name of the header that tells a program the id of the capture.
pub const CAPTURE_ID: HeaderName = HeaderName::from_static("x-capture-id");

async fn submit(State(shared): State<Arc<Shared>>, Form(fields): Form<BTreeMap<String, String>>) -> Response {
    let number = shared.submissions.fetch_add(1, Ordering::Relaxed) + 1;
    let id = format!("{}-{number}", shared.prefix);
    // A field that was left empty was not filled in.
    let fields: BTreeMap<String, String> = fields.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect();
    let event = json!({
        "id": id,
        "surface": "form:contact",
        "captured_at": jiff::Timestamp::now().to_string(),
        "fields": fields,
        "context": { "page": { "url": "https://acme.example/contact", "title": "Contact" } },
    });
    let PageSite { site, environment, ingest, .. } = &shared.site;
    match ingest.post_events(site, environment, &event).await {
        Ok(_) => ([(CAPTURE_ID, id.clone())], Redirect::to(&format!("/thanks/{id}"))).into_response(),
        Err(error) => {
            let page = layout("Not sent", &format!("<p>Your message was not sent: {}</p>", escape(&error.to_string())));
            (StatusCode::BAD_GATEWAY, page).into_response()
        }
    }
}

async fn thanks(Path(id): Path<String>) -> Response {
    let id = escape(&id);
    let body = format!(
        "<p id=\"thanks\">Thank you. Your message was captured as <code id=\"capture\">{id}</code>.</p>\
         <p><a href=\"/trace/{id}\">What became of it</a> · <a href=\"/\">Write another</a></p>"
    );
    layout("Thank you", &body)
}

async fn trace(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let PageSite { site, environment, operator, .. } = &shared.site;
    match operator.trace(site, environment, &id).await {
        Ok(trace) => {
            let text = serde_json::to_string_pretty(&trace).unwrap_or_else(|_| Value::Null.to_string());
            let body = format!("<pre id=\"trace\">{}</pre><p><a href=\"/\">Write another</a></p>", escape(&text));
            layout(&format!("What became of {}", escape(&id)), &body)
        }
        Err(error) => {
            let body = format!("<p>{}</p>", escape(&error.to_string()));
            (StatusCode::BAD_GATEWAY, layout("Unknown", &body)).into_response()
        }
    }
}

fn layout(title: &str, body: &str) -> Response {
    let page = include_str!("page/layout.html").replace("{{title}}", title).replace("{{body}}", body);
    ([(header::CACHE_CONTROL, "no-store")], Html(page)).into_response()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_cannot_become_markup() {
        assert_eq!(escape("<a href='x'>\"&\""), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;");
    }
}
