//! The HTTP server: listening, TLS, draining.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use actix_web::{App, HttpServer, middleware::from_fn, web};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Api, drain::close_when_draining, ops_routes, request_log::request_log, routes, tls};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long a client may take to close.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another server running there?")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The server broke.
    #[error("the HTTP server failed: {0}")]
    Run(#[from] io::Error),
}

/// A certificate chain and its key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Worker threads; 0 means one for each core.
    pub workers: usize,
    /// How long a request head may take.
    pub head_timeout: Duration,
    /// How long the server goes on when it is to stop, and only says so.
    pub drain_delay: Duration,
    /// How long requests in flight may go on when the server stops.
    pub drain_timeout: Duration,
    /// How many connections a worker has at once.
    pub connections_per_worker: usize,
    /// TLS, if it is to be spoken.
    pub tls: Option<TlsFiles>,
}

/// Listens on an address. A client that takes nothing for `idle_timeout`, though bytes wait for it, is
/// cut off by the kernel: the HTTP library has no such limit.
pub fn listen(address: SocketAddr, idle_timeout: Duration) -> Result<TcpListener, ServeError> {
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        // Accepted connections inherit it.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(idle_timeout))?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| ServeError::Listen { address, source })
}

/// Serves until `stop` is ready; then says for a while that it is about to stop, and lets requests in flight end.
pub async fn serve(
    api: Api,
    options: ServerOptions,
    listeners: Vec<TcpListener>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (is_janitor_only, drain) = (api.is_janitor_only, api.drain.clone());
    let stop = async move {
        stop.await;
        drain.begin();
        tokio::time::sleep(options.drain_delay).await;
    };
    let api = web::Data::new(api);
    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(api.clone())
            .wrap(from_fn(request_log))
            .wrap(from_fn(close_when_draining))
            .configure(if is_janitor_only { ops_routes } else { routes })
    })
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(options.head_timeout)
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .max_connections(options.connections_per_worker)
    .shutdown_timeout(options.drain_timeout.as_secs())
    .shutdown_signal(stop);
    if options.workers > 0 {
        server = server.workers(options.workers);
    }
    let tls = options.tls.map(tls::server_config).transpose()?;
    for listener in listeners {
        server = match &tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls.clone())?,
            // Not `listen_auto_h2c`: to tell HTTP/2 from HTTP/1.1 it waits for the first byte without a
            // limit, so silent connections would fill the server.
            None => server.listen(listener)?,
        };
    }
    server.run().await?;
    Ok(())
}
