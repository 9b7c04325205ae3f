//! The broker against a real RabbitMQ: one virtual host for each test, started by `make servers`.

#[path = "rabbit/consuming.rs"]
mod consuming;
#[path = "rabbit/faults.rs"]
mod faults;
#[path = "rabbit/management.rs"]
mod management;
#[path = "rabbit/parked.rs"]
mod parked;
#[path = "rabbit/publishing.rs"]
mod publishing;
#[path = "rabbit/rig.rs"]
mod rig;
#[path = "rabbit/rights.rs"]
mod rights;
#[path = "rabbit/settling.rs"]
mod settling;
#[path = "rabbit/strangers.rs"]
mod strangers;
#[path = "rabbit/tls.rs"]
mod tls;
#[path = "rabbit/topology.rs"]
mod topology;
