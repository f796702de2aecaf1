//! `kontor serve`.

use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::CliError;
use crate::{
    app::App,
    config::Config,
    registry::bootstrap::{ADMIN, DEMO, FirstStart},
    telemetry::init_log,
};

/// Serves until SIGTERM or Ctrl-C, then lets requests in flight end.
pub async fn serve(config: Config) -> Result<(), CliError> {
    init_log(&config.log)?;
    let app = App::build(config)?;
    let first_start = app.prepare().await?;
    let listeners = app.listen()?;
    let mut addresses = Vec::new();
    for listener in &listeners {
        addresses.push(listener.local_addr()?);
    }
    welcome(app.config(), &addresses, first_start.as_ref());
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let drain_seconds = app.config().server.drain_timeout_seconds;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!(drain_seconds, "stopping; requests in flight may end");
    };
    for address in &addresses {
        info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    }
    app.serve(listeners, stop).await?;
    info!("stopped");
    Ok(())
}

/// Says how to use the registry, in lines that can be pasted.
fn welcome(config: &Config, addresses: &[SocketAddr], first_start: Option<&FirstStart>) {
    let scheme = if config.server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let host = match (&config.server.public_url, addresses.first()) {
        (Some(url), _) => {
            let host = url.host_str().unwrap_or_default();
            url.port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
        }
        (None, Some(address)) => address.to_string(),
        (None, None) => return,
    };
    println!(
        "kontor {} serves {scheme}://{host}",
        env!("CARGO_PKG_VERSION")
    );
    println!("data lies in {}", config.data_dir.display());
    let password = first_start.and_then(|start| start.random_password.as_deref());
    if password.is_some() {
        println!("The password of {ADMIN} is shown this once only; keep it:");
    }
    println!();
    let secret = password
        .map(|password| format!(" --password {password}"))
        .unwrap_or_default();
    println!("docker login {host} --username {ADMIN}{secret}");
    let image = format!("{host}/{DEMO}/alpine");
    println!("docker pull alpine && docker tag alpine {image} && docker push {image}");
    println!("docker pull {image}");
    println!();
}
