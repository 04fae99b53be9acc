//! A real RabbitMQ of its own: on private ports, in a directory of its own, as the user who runs the tests.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::wait;

/// The server without Debian's wrapper, which insists on a user of its own.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Time the server gets to serve, or to end.
const WITHIN: Duration = Duration::from_secs(90);
/// Credentials that must show nowhere.
pub const USER: &str = "queue-worker";
/// The same.
pub const PASSWORD: &str = "v3ry-s3cret";

/// A broker that runs or not; what is in it stays over restarts.
pub struct Broker {
    directory: TempDir,
    ports: [u16; 3],
    /// Erlang's name server, else a daemon that outlives everybody.
    names: Child,
    server: Option<Child>,
}

impl Broker {
    /// A broker that serves.
    pub fn start() -> Result<Self> {
        ensure!(
            Path::new(SERVER).exists(),
            "RabbitMQ is not installed; run: apt-get install -y rabbitmq-server python3-pika"
        );
        let directory = tempfile::Builder::new().prefix("broker").tempdir()?;
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
        let mut ports = [0; 3];
        for (port, listener) in ports.iter_mut().zip(held) {
            *port = listener?.local_addr()?.port();
        }
        let names = Command::new("epmd")
            .args(["-port", &ports[2].to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("epmd does not start; install erlang-base")?;
        let mut broker = Self {
            directory,
            ports,
            names,
            server: None,
        };
        broker.configure()?;
        broker.begin()?;
        Ok(broker)
    }

    /// Its address with credentials.
    pub fn url(&self) -> String {
        format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{}/", self.ports[0])
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self) -> Result<()> {
        let text = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\ndefault_user = {USER}\ndefault_pass = {PASSWORD}\nloopback_users = none\n",
            self.ports[0]
        );
        std::fs::write(self.at("rabbitmq.conf"), text)?;
        Ok(std::fs::write(self.at("plugins"), "[].\n")?)
    }

    /// Starts the server and waits until it serves.
    pub fn begin(&mut self) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.at("out"))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let [port, distribution, names] = self.ports.map(|port| port.to_string());
        let server = Command::new(SERVER)
            .env_clear()
            .env("PATH", path)
            .env("LANG", "C.UTF-8")
            .env("HOME", self.directory.path())
            .env("RABBITMQ_NODENAME", format!("test{port}@localhost"))
            .env("RABBITMQ_CONFIG_FILE", self.at("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.at("plugins"))
            .env("RABBITMQ_MNESIA_BASE", self.at("data"))
            .env("RABBITMQ_LOG_BASE", self.at("log"))
            .env("RABBITMQ_PID_FILE", self.at("pid"))
            .env("RABBITMQ_DIST_PORT", distribution)
            .env("ERL_EPMD_PORT", names)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // The script has children: they are ended together.
            .process_group(0)
            .spawn()
            .context("rabbitmq-server does not start")?;
        self.server = Some(server);
        let address = format!("127.0.0.1:{}", self.ports[0]);
        wait::until("the broker serves", WITHIN, || {
            Ok(match std::net::TcpStream::connect(&address) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error}; {}", self.log())),
            })
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.at("out")).unwrap_or_default()
    }

    /// Ends the server in order.
    pub fn end(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the broker does not run")?;
        let pid = rustix::process::Pid::from_child(&server);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        wait::until("the broker ends", WITHIN, || {
            Ok(server.try_wait()?.ok_or_else(|| "it runs".to_owned()))
        })?;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let group = rustix::process::Pid::from_child(&server);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = server.wait();
        }
        let _ = self.names.kill();
        let _ = self.names.wait();
    }
}
