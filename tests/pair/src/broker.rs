//! A real RabbitMQ of its own: on private ports, in a directory of its own, as the user who runs the tests.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{ports, wait};

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
        Self::start_with("")
    }

    /// As [`Broker::start`], with further lines in its configuration.
    pub fn start_with(more: &str) -> Result<Self> {
        ensure!(
            Path::new(SERVER).exists(),
            "RabbitMQ is not installed; run: apt-get install -y rabbitmq-server python3-pika"
        );
        let directory = tempfile::Builder::new().prefix("broker").tempdir()?;
        // It ends and begins again at the same ones.
        let ports = [ports::free()?, ports::free()?, ports::free()?];
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
        broker.configure(more)?;
        broker.begin()?;
        Ok(broker)
    }

    /// Its address with credentials.
    pub fn url(&self) -> String {
        format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{}/", self.ports[0])
    }

    /// As [`Broker::url`], of another virtual host.
    pub fn url_of(&self, vhost: &str) -> String {
        format!("{}{vhost}", self.url())
    }

    /// Makes a virtual host that its user may use.
    pub fn add_vhost(&self, vhost: &str) -> Result<()> {
        self.control(&["add_vhost", vhost])?;
        self.control(&["set_permissions", "-p", vhost, USER, ".*", ".*", ".*"])
    }

    /// `rabbitmqctl`.
    pub fn control(&self, arguments: &[&str]) -> Result<()> {
        let name = format!("test{}@localhost", self.ports[0]);
        let output = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl")
            .args(["-n", &name])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("HOME", self.directory.path())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("ERL_EPMD_PORT", self.ports[2].to_string())
            .env("ERL_CRASH_DUMP", "/dev/null")
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {error}");
        Ok(())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, more: &str) -> Result<()> {
        let text = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\ndefault_user = {USER}\ndefault_pass = {PASSWORD}\nloopback_users = none\n{more}\n",
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
            .env("ERL_CRASH_DUMP", "/dev/null")
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

    /// The server hangs: its connections stay, and nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// And goes on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let server = self.server.as_ref().context("the broker does not run")?;
        let group = rustix::process::Pid::from_child(server);
        Ok(rustix::process::kill_process_group(group, signal)?)
    }

    /// The ids of the messages that lie in each queue, taken out; a queue that is not there has none.
    pub fn drain(&self, queues: &[String]) -> Result<BTreeMap<String, Vec<String>>> {
        let arguments = queues.iter().map(String::as_str);
        let text = self.tool(&["drain"].into_iter().chain(arguments).collect::<Vec<_>>())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Somebody removes an exchange by hand.
    pub fn remove_exchange(&self, name: &str) -> Result<()> {
        self.tool(&["remove-exchange", name]).map(|_| ())
    }

    /// Whether there is an exchange of that name.
    pub fn has_exchange(&self, name: &str) -> Result<bool> {
        Ok(self.tool(&["has-exchange", name])?.trim() == "true")
    }

    /// Somebody else makes a queue with one message, whose id is its name; of another kind than a node makes, where `limited`.
    pub fn make(&self, queue: &str, limited: bool) -> Result<()> {
        let length: &[&str] = if limited { &["1000"] } else { &[] };
        self.tool(&[&["make", queue], length].concat()).map(|_| ())
    }

    /// Whether there is a queue of that name in a virtual host.
    pub fn has_queue(&self, vhost: &str, name: &str) -> Result<bool> {
        Ok(self.tool_at(vhost, &["has-queue", name])?.trim() == "true")
    }

    /// Somebody removes a queue by hand.
    pub fn remove_queue(&self, vhost: &str, name: &str) -> Result<()> {
        self.tool_at(vhost, &["remove-queue", name]).map(|_| ())
    }

    /// As [`Broker::make`], in a virtual host and of the kind that a node makes.
    pub fn make_at(&self, vhost: &str, queue: &str) -> Result<()> {
        self.tool_at(vhost, &["make", queue]).map(|_| ())
    }

    /// As [`Broker::drain`], of one queue of a virtual host.
    pub fn drain_at(&self, vhost: &str, queue: &str) -> Result<Vec<String>> {
        let text = self.tool_at(vhost, &["drain", queue])?;
        let mut all: BTreeMap<String, Vec<String>> = serde_json::from_str(&text)?;
        Ok(all.remove(queue).unwrap_or_default())
    }

    fn tool(&self, arguments: &[&str]) -> Result<String> {
        self.tool_at("/", arguments)
    }

    /// `tests/pair/broker.py`, with pika.
    fn tool_at(&self, vhost: &str, arguments: &[&str]) -> Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("broker.py");
        let output = Command::new("/usr/bin/python3")
            .arg(script)
            .args([self.ports[0].to_string().as_str(), USER, PASSWORD])
            .args(arguments)
            .env("VHOST", vhost)
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {error}");
        Ok(String::from_utf8(output.stdout)?)
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
