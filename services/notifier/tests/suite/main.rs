//! The notifier against real RabbitMQ, Redis and S3, with a real receiver. One binary for all of it.

#[cfg(test)]
mod house;

#[cfg(test)]
mod deliveries;
#[cfg(test)]
mod events;
