//! The table of routes: the one list of all endpoints.
//!
//! A row has a path, and its methods with the handler of each. The dispatch of requests, the header
//! `Allow`, the check of a body's headers, and the paths of `/openapi.json`, which
//! `#[utoipa::path]` describes at the handlers, all come from this table. So a new route is a row
//! here and its handler.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::Method;
use futures_util::future::LocalBoxFuture;
use utoipa::OpenApi;

use super::app_state::HttpLimits;
use super::error::{ApiError, ErrorForm};
use super::guard::Surface;
use super::handlers::{events, output, page, procs, session, state};
use super::openapi;
use super::path::{self, PathError, PathParams};
use super::request_context::RequestContext;

/// The handler of a request.
type Handler = for<'a> fn(
    &'a RequestContext<'a>,
    &'a mut Payload,
) -> LocalBoxFuture<'a, Result<HttpResponse, ApiError>>;

/// A method of an endpoint.
struct Operation {
    method: Method,
    handler: Handler,
    /// Maximum length of the body that it reads; `None` if it reads none.
    body: Option<fn(&HttpLimits) -> u64>,
    /// Whether it answers HEAD as well, like GET without the body.
    head: bool,
    /// The error format; `None` for the endpoint's.
    errors: Option<ErrorForm>,
}

impl Operation {
    fn new(method: Method, handler: Handler) -> Operation {
        let head = method == Method::GET;
        Operation { method, handler, body: None, head, errors: None }
    }

    fn body(self, limit: fn(&HttpLimits) -> u64) -> Operation {
        Operation { body: Some(limit), ..self }
    }

    fn without_head(self) -> Operation {
        Operation { head: false, ..self }
    }

    fn errors(self, form: ErrorForm) -> Operation {
        Operation { errors: Some(form), ..self }
    }
}

/// A path and its operations.
pub(super) struct Endpoint {
    /// With placeholders such as `{id}`.
    path: &'static str,
    operations: Vec<Operation>,
    surface: Surface,
    errors: ErrorForm,
}

impl Endpoint {
    fn new(path: &'static str, operations: Vec<Operation>) -> Endpoint {
        Endpoint { path, operations, surface: Surface::Api, errors: ErrorForm::Problem }
    }

    fn surface(self, surface: Surface) -> Endpoint {
        Endpoint { surface, ..self }
    }

    fn errors(self, errors: ErrorForm) -> Endpoint {
        Endpoint { errors, ..self }
    }
}

/// The rows: `path modifiers { METHOD handler modifiers; ... }`.
macro_rules! routes {
    ($($path:literal $(.$set:ident($value:expr))* {$(
        $method:ident $room:ident::$handler:ident $(.$with:ident($($arg:expr)?))*;
    )*})*) => {
        static ENDPOINTS: LazyLock<Vec<Endpoint>> = LazyLock::new(|| vec![$(
            Endpoint::new($path, vec![$(
                Operation::new(Method::$method, |ctx, payload| {
                    Box::pin($room::$handler(ctx, payload))
                })$(.$with($($arg)?))*,
            )*])$(.$set($value))*,
        )*]);

        /// The descriptions of the handlers.
        #[derive(OpenApi)]
        #[openapi(paths($($($room::$handler,)*)*))]
        struct Paths;
    };
}

routes! {
    "/procs" .errors(ErrorForm::Older) {
        GET procs::list;
        POST procs::start .body(|limits| limits.body);
        DELETE procs::prune .errors(ErrorForm::Problem);
    }
    "/procs/{id}" .errors(ErrorForm::Older) {
        GET procs::one;
        DELETE procs::delete;
    }
    "/procs/{id}/stop" {
        POST procs::stop .body(|_| procs::STOP_BODY);
    }
    "/procs/{id}/signals/{signal}" .errors(ErrorForm::Older) {
        POST procs::signal;
    }
    "/procs/{id}/output/{fd}/data" .errors(ErrorForm::Older) {
        GET output::data;
    }
    "/procs/{id}/output/{fd}/follow" {
        GET output::follow;
    }
    "/events" {
        GET events::stream;
    }
    "/events/ws" {
        GET events::socket .without_head();
    }
    "/status" {
        GET state::status;
    }
    "/log-level" {
        GET state::log_level;
        PUT state::set_log_level .body(|_| state::LEVEL_BODY);
    }
    "/healthz" {
        GET state::healthz;
    }
    "/readyz" {
        GET state::readyz;
    }
    "/metrics" {
        GET state::metrics;
    }
    "/openapi.json" {
        GET state::openapi;
    }
    "/session-codes" {
        POST session::new_code;
    }
    "/sessions" .surface(Surface::Trade) {
        POST session::trade .body(|_| session::TRADE_BODY);
    }
    "/" .surface(Surface::Page) {
        GET page::page;
    }
    "/ui/{file}" .surface(Surface::Asset) {
        GET page::asset;
    }
}

/// The description of the API, as JSON.
pub(super) fn description() -> String {
    openapi::json(Paths::openapi())
}

/// The endpoint of a path, and the values of its placeholders.
#[derive(Clone)]
pub(super) struct Route {
    endpoint: &'static Endpoint,
    pub(super) params: PathParams,
}

impl Route {
    /// The route of a path in a request line, without its query.
    ///
    /// # Errors
    /// No endpoint has this path, or it cannot be decoded.
    pub(super) fn find(path: &str) -> Result<Route, PathError> {
        let segments = path::segments(path)?;
        let found = ENDPOINTS.iter().find_map(|endpoint| {
            let params = path::captures(endpoint.path, &segments)?;
            Some(Route { endpoint, params })
        });
        found.ok_or(PathError::Unknown)
    }

    /// The part of the service that it belongs to, for access control.
    pub(super) fn surface(&self) -> Surface {
        self.endpoint.surface
    }

    fn operation(&self, method: &Method) -> Option<&'static Operation> {
        let operations = &self.endpoint.operations;
        operations.iter().find(|operation| {
            operation.method == *method || (operation.head && *method == Method::HEAD)
        })
    }

    /// The methods that it accepts, as in the header `Allow`.
    pub(super) fn allow(&self) -> String {
        let with_head = |operation: &'static Operation| {
            let head = operation.head.then_some("HEAD");
            std::iter::once(operation.method.as_str()).chain(head)
        };
        self.endpoint.operations.iter().flat_map(with_head).collect::<Vec<_>>().join(", ")
    }

    /// Checks that it accepts a method.
    ///
    /// # Errors
    /// [`ApiError::Method`].
    pub(super) fn takes(&self, method: &Method) -> Result<(), ApiError> {
        match self.operation(method) {
            Some(_) => Ok(()),
            None => Err(ApiError::Method { method: method.to_string(), allow: self.allow() }),
        }
    }

    /// Maximum length of the body of a request with this method; `None` if its body is not read.
    pub(super) fn body_limit(&self, method: &Method, limits: &HttpLimits) -> Option<u64> {
        self.operation(method)?.body.map(|limit| limit(limits))
    }

    /// The format of errors for a request with this method.
    pub(super) fn error_form(&self, method: &Method) -> ErrorForm {
        let own = self.operation(method).and_then(|operation| operation.errors);
        own.unwrap_or(self.endpoint.errors)
    }

    /// Answers a request.
    ///
    /// # Errors
    /// It does not accept the request's method; otherwise the handler's error.
    pub(super) async fn answer(
        &self,
        ctx: &RequestContext<'_>,
        payload: &mut Payload,
    ) -> Result<HttpResponse, ApiError> {
        let method = ctx.request.method();
        match self.operation(method) {
            Some(operation) => (operation.handler)(ctx, payload).await,
            None => Err(ApiError::Method { method: method.to_string(), allow: self.allow() }),
        }
    }
}

/// Every path with its methods, as in the description: HEAD goes with GET.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let methods = |endpoint: &'static Endpoint| {
        endpoint.operations.iter().map(|one| (endpoint.path, one.method.as_str()))
    };
    ENDPOINTS.iter().flat_map(methods)
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    /// The endpoint of a path, and the values of `names`.
    fn found(path: &str, names: &[&str]) -> Result<(&'static str, Vec<String>), PathError> {
        let route = Route::find(path)?;
        let values = names.iter().map(|name| route.params.get(name).to_owned());
        Ok((route.endpoint.path, values.collect()))
    }

    #[test]
    fn each_segment_of_a_path_is_decoded_once() {
        let plain = |path| Ok((path, vec![]));
        let proc = |id: &str| Ok(("/procs/{id}", vec![id.to_owned()]));
        for (path, names, expected) in [
            ("/procs", &[][..], plain("/procs")),
            ("/%70rocs", &[], plain("/procs")),
            ("/procs/", &["id"], proc("")),
            ("/procs/a", &["id"], proc("a")),
            ("/procs/a%2Fb", &["id"], proc("a/b")),
            ("/procs/a%2fb", &["id"], proc("a/b")),
            ("/procs/%25", &["id"], proc("%")),
            ("/procs/%252F", &["id"], proc("%2F")),
            ("/procs/a+b%20c", &["id"], proc("a+b c")),
            ("/procs/..", &["id"], proc("..")),
            ("/procs/%2e%2e", &["id"], proc("..")),
            ("/procs/%C3%A4%00", &["id"], proc("ä\0")),
            ("/procs/procs", &["id"], proc("procs")),
            ("/procs/%FF", &[], Err(PathError::NotUtf8)),
            ("/procs/%ED%A0%80", &[], Err(PathError::NotUtf8)),
            ("/procs/%", &[], Err(PathError::Percent)),
            ("/procs/%2", &[], Err(PathError::Percent)),
            ("/procs/%+2", &[], Err(PathError::Percent)),
            ("/procs/%%32", &[], Err(PathError::Percent)),
            ("/procs/a/", &[], Err(PathError::Unknown)),
            ("/procs/a/signals", &[], Err(PathError::Unknown)),
            ("/procs/a/stop", &["id"], Ok(("/procs/{id}/stop", vec!["a".into()]))),
            ("/procs//stop", &["id"], Ok(("/procs/{id}/stop", vec![String::new()]))),
            ("/procs/stop", &["id"], proc("stop")),
            ("/events", &[], plain("/events")),
            ("/events/", &[], Err(PathError::Unknown)),
            ("/events/ws", &[], plain("/events/ws")),
            ("/openapi%2Ejson", &[], plain("/openapi.json")),
            ("/procs/a/signals/TERM/", &[], Err(PathError::Unknown)),
            ("/procs/a/output/stdout", &[], Err(PathError::Unknown)),
            ("/procs/a/output/stdout/data/x", &[], Err(PathError::Unknown)),
            ("/procs%2Fa", &[], Err(PathError::Unknown)),
            ("/Procs", &[], Err(PathError::Unknown)),
            ("/", &[], plain("/")),
            ("/ui", &[], Err(PathError::Unknown)),
            ("/ui/a%2Fb", &["file"], Ok(("/ui/{file}", vec!["a/b".into()]))),
            ("/ui/app.js/", &[], Err(PathError::Unknown)),
            ("", &[], Err(PathError::Unknown)),
            ("*", &[], Err(PathError::Unknown)),
        ] {
            assert_eq!(found(path, names), expected, "{path}");
        }
        for (path, id, signal) in [
            ("/procs/a/signals/TERM", "a", "TERM"),
            ("/procs/a/signals/SIGRTMIN%2B3", "a", "SIGRTMIN+3"),
            ("/procs//signals/9", "", "9"),
        ] {
            let expected = ("/procs/{id}/signals/{signal}", vec![id.into(), signal.into()]);
            assert_eq!(found(path, &["id", "signal"]), Ok(expected), "{path}");
        }
        for (path, fd) in
            [("/procs/a/output/stdout/data", "stdout"), ("/procs/a/output/1%2F2/data", "1/2")]
        {
            let expected = ("/procs/{id}/output/{fd}/data", vec!["a".into(), fd.into()]);
            assert_eq!(found(path, &["id", "fd"]), Ok(expected), "{path}");
        }
    }

    #[test]
    fn every_endpoint_is_reached_by_its_path() {
        for endpoint in &*ENDPOINTS {
            let path = endpoint.path.replace("{id}", "a%2Fb").replace("{fd}", "stdout");
            let path = path.replace("{file}", "app.js").replace("{signal}", "TERM");
            let route = Route::find(&path).unwrap();
            assert_eq!(route.endpoint.path, endpoint.path, "{path}");
        }
    }

    #[test]
    fn routes_have_their_methods_body_limits_and_error_forms() {
        let limits = HttpLimits::DEFAULT;
        for (path, allow, method, body, form) in [
            (
                "/procs",
                "GET, HEAD, POST, DELETE",
                Method::POST,
                Some(limits.body),
                ErrorForm::Older,
            ),
            ("/procs", "GET, HEAD, POST, DELETE", Method::DELETE, None, ErrorForm::Problem),
            ("/procs", "GET, HEAD, POST, DELETE", Method::PUT, None, ErrorForm::Older),
            ("/procs/a", "GET, HEAD, DELETE", Method::HEAD, None, ErrorForm::Older),
            ("/procs/a/stop", "POST", Method::POST, Some(4096), ErrorForm::Problem),
            ("/events/ws", "GET", Method::HEAD, None, ErrorForm::Problem),
            ("/log-level", "GET, HEAD, PUT", Method::GET, None, ErrorForm::Problem),
        ] {
            let route = Route::find(path).unwrap();
            assert_eq!(route.allow(), allow, "{path}");
            assert_eq!(route.body_limit(&method, &limits), body, "{method} {path}");
            assert_eq!(route.error_form(&method), form, "{method} {path}");
            assert_eq!(route.takes(&method).is_ok(), allow.split(", ").any(|one| method == one));
        }
    }

    proptest! {
        /// Encoded as by the existing client: everything but letters and digits.
        #[test]
        fn any_text_is_an_id_an_fd_or_a_signal(id: String, other: String) {
            let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let (sent, also_sent) = (encode(&id), encode(&other));
            let both = vec![id.clone(), other.clone()];
            prop_assert_eq!(
                found(&format!("/procs/{sent}"), &["id"]),
                Ok(("/procs/{id}", vec![id.clone()]))
            );
            prop_assert_eq!(
                found(&format!("/procs/{sent}/output/{also_sent}/data"), &["id", "fd"]),
                Ok(("/procs/{id}/output/{fd}/data", both.clone()))
            );
            prop_assert_eq!(
                found(&format!("/procs/{sent}/signals/{also_sent}"), &["id", "signal"]),
                Ok(("/procs/{id}/signals/{signal}", both))
            );
        }

        #[test]
        fn no_path_panics(path in "/procs(/[%/a-fA-F0-9]{0,8}){0,4}") {
            let _ = Route::find(&path);
        }
    }
}
