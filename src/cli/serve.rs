//! `kontor serve`.

use std::{io::Write as _, net::SocketAddr};

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::CliError;
use crate::{
    app::{App, Role},
    config::Config,
    registry::bootstrap::{ADMIN, DEMO, FirstStart},
    telemetry::init_log,
};

/// Serves until SIGTERM or Ctrl-C, then lets requests in flight end.
pub async fn serve(config: Config, role: Role) -> Result<(), CliError> {
    init_log(&config.log)?;
    let app = App::build(config)?.with_role(role);
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
    let server = &app.config().server;
    let delay_seconds = server.drain_delay_seconds;
    let drain_seconds = server.drain_timeout_seconds;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!(
            delay_seconds,
            drain_seconds, "stopping; requests in flight may end"
        );
    };
    for address in &addresses {
        info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    }
    app.serve(listeners, stop).await?;
    info!("stopped");
    Ok(())
}

/// Says how to use the registry, in lines that can be pasted. A registry whose output nobody reads any
/// more goes on all the same.
fn welcome(config: &Config, addresses: &[SocketAddr], first_start: Option<&FirstStart>) {
    if let Some(text) = welcome_text(config, addresses, first_start) {
        let mut out = std::io::stdout();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn welcome_text(
    config: &Config,
    addresses: &[SocketAddr],
    first_start: Option<&FirstStart>,
) -> Option<String> {
    let scheme = if config.server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let host = match &config.server.public_url {
        Some(url) => {
            let host = url.host_str()?;
            url.port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
        }
        None => addresses.first()?.to_string(),
    };
    let version = env!("CARGO_PKG_VERSION");
    let data_dir = config.data_dir.display();
    let image = format!("{host}/{DEMO}/alpine");
    let password = first_start.and_then(|start| start.random_password.as_deref());
    let (notice, secret) = match password {
        None => (String::new(), String::new()),
        Some(password) => (
            format!("The password of {ADMIN} is shown this once only; keep it:\n"),
            format!(" --password {password}"),
        ),
    };
    Some(format!(
        "kontor {version} serves {scheme}://{host}\ndata lies in {data_dir}\n{notice}\n\
         docker login {host} --username {ADMIN}{secret}\n\
         docker pull alpine && docker tag alpine {image} && docker push {image}\n\
         docker pull {image}\n\n"
    ))
}
