//! A path with the methods that it takes; another one is answered with 405 and `Allow` (RFC 9110, section 15.5.6).

use actix_web::{
    FromRequest, Handler, HttpRequest, Resource, Responder,
    dev::{AppService, HttpServiceFactory},
    http::Method,
    web,
};

use super::render::{OciError, PlainError, Problem};
use crate::error::{Code, Error};

/// The form of the errors under a path.
#[derive(Debug, Clone, Copy)]
enum Form {
    Oci,
    Problem,
    Plain,
}

/// A path with the methods that it takes.
pub struct Endpoint {
    resource: Resource,
    methods: Vec<Method>,
    form: Form,
}

impl Endpoint {
    /// A path of the OCI Distribution API.
    pub fn oci(path: &str) -> Self {
        Self::new(path, Form::Oci)
    }

    /// A path of the management API.
    pub fn admin(path: &str) -> Self {
        Self::new(path, Form::Problem)
    }

    /// A path of Keppel's API.
    pub fn keppel(path: &str) -> Self {
        Self::new(path, Form::Plain)
    }

    fn new(path: &str, form: Form) -> Self {
        Self {
            resource: web::resource(path),
            methods: Vec::new(),
            form,
        }
    }

    fn on<F, A>(mut self, method: Method, handler: F) -> Self
    where
        F: Handler<A>,
        A: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::method(method.clone()).to(handler));
        self.methods.push(method);
        self
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident, $method:ident;)*) => {
        impl Endpoint {$(
            $(#[$doc])*
            pub fn $name<F, A>(self, handler: F) -> Self
            where
                F: Handler<A>,
                A: FromRequest + 'static,
                F::Output: Responder + 'static,
            {
                self.on(Method::$method, handler)
            }
        )*}
    };
}

methods! {
    /// Takes GET.
    get, GET;
    /// Takes HEAD.
    head, HEAD;
    /// Takes POST.
    post, POST;
    /// Takes PUT.
    put, PUT;
    /// Takes PATCH.
    patch, PATCH;
    /// Takes DELETE.
    delete, DELETE;
}

impl HttpServiceFactory for Endpoint {
    fn register(self, config: &mut AppService) {
        let allow: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let (allow, form) = (allow.join(", "), self.form);
        let otherwise = move |request: HttpRequest| {
            let message = format!("{} is not supported here", request.method());
            let error = Error::with_message(Code::Unsupported, message);
            let error = error.with_header("Allow", allow.clone());
            let answer: actix_web::Error = match form {
                Form::Oci => OciError(error).into(),
                Form::Problem => Problem(error).into(),
                Form::Plain => PlainError(error).into(),
            };
            std::future::ready(Err::<&str, _>(answer))
        };
        self.resource
            .default_service(web::to(otherwise))
            .register(config);
    }
}
