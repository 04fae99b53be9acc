//! Real nodes, real TLS, real signals: what the simulator cannot show. One binary, so that the harness is linked once.

mod commands;
mod configuration;
mod control_files;
mod crashes;
mod fencing;
mod hostile;
mod hostile_provider;
mod hostile_standby;
mod isolation;
mod malleated;
mod namespaces;
mod operator;
mod plugins;
mod queries;
mod refusals;
mod restarts;
mod sdk;
mod stall;
mod strategies;
mod strong;
mod takeover;
mod traces;
mod upgrade;
mod usage;
mod verify;
mod way_back;
