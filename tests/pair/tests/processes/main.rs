//! Real nodes, real TLS, real signals: what the simulator cannot show. One binary, so that the harness is linked once.

mod commands;
mod hostile;
mod isolation;
mod plugins;
mod queries;
mod refusals;
mod restarts;
mod sdk;
mod stall;
mod strategies;
mod traces;
mod upgrade;
