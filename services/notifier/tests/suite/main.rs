//! The notifier against real RabbitMQ, Redis and S3, with a real receiver. One binary for all of it.

#[cfg(test)]
mod house;

#[cfg(test)]
mod days;
#[cfg(test)]
mod deliveries;
#[cfg(test)]
mod events;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod webhooks;
