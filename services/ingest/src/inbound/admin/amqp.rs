//! `/v1/admin/tenants/{tenant}/amqp-user`: a RabbitMQ user with the least that a tenant needs.

use crate::auth::AsOperator;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::inbound::Routes;
use crate::problems::Path;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use photofinish_broker::{Grants, ManagementError, definitions};
use photofinish_contract::problem::Problem;
use photofinish_model::{Code, Tenant};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default().routes(routes!(create, remove))
}

/// A tenant's AMQP user.
#[derive(Debug, Serialize, ToSchema)]
struct AmqpUser {
    /// Its name: the tenant's.
    user: Tenant,
    /// Its password; shown now, and never again.
    password: String,
    /// Where it connects to, as ingest knows the broker.
    url: String,
    /// Whether the user is there; false: the definitions are to be imported.
    applied: bool,
    /// What it may do: patterns of names to `configure`, `write` and `read`, and of keys under `topics`. Its queues are
    /// named `{tenant}.…` or by RabbitMQ.
    #[schema(value_type = Object)]
    permissions: Value,
    /// The same for `rabbitmqctl import_definitions`, the password as a salted hash.
    #[schema(value_type = Object)]
    definitions: Value,
}

fn reserved(tenant: &Tenant) -> Refusal {
    let detail = format!(
        "{tenant} is a name of the broker's or of ours there: a tenant of another name can have one"
    );
    Refusal::new(409, Code::NotAllowed, detail)
}

fn managed(error: ManagementError) -> Refusal {
    match error {
        ManagementError::NotOurs(name) => {
            let detail = format!(
                "there is an AMQP user {name} that was not made here, or was changed since; it is left as it is: \
                 delete it on the broker first"
            );
            Refusal::new(409, Code::NotAllowed, detail)
        }
        ManagementError::Url
        | ManagementError::Tls(_)
        | ManagementError::Client(_)
        | ManagementError::Http { .. }
        | ManagementError::Refused { .. } => error.into(),
    }
}

/// Make a tenant's AMQP user, or give it a new password.
///
/// Through RabbitMQ's management API if ingest knows one (`broker.management_url`); else the answer says what to
/// import. It may publish to `photofinish.jobs`, bind its own keys of the events, and use queues of its own.
#[utoipa::path(post, path = "/v1/admin/tenants/{tenant}/amqp-user", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant")),
    responses((status = 201, body = AmqpUser, description = "The user, with its password"),
        (status = 409, body = Problem, description = "The name is RabbitMQ's own or ours, or somebody else has \
            made a user of that name")))]
async fn create(
    State(ingest): App,
    operator: AsOperator,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<AmqpUser>), Refusal> {
    let tenant = ingest.known_tenant(&name).await?.tenant;
    let access = &ingest.config.amqp;
    let user = tenant.as_str();
    let grants = Grants::of(user).filter(|_| access.user != user && user != "guest");
    let grants = grants.ok_or_else(|| reserved(&tenant))?;
    let password = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    ingest
        .audit(&operator, "amqp_user.create", user, json!({}))
        .await?;
    if let Some(management) = &ingest.management {
        let made = management.put_user(user, &password, &grants).await;
        made.map_err(managed)?;
    }
    let made = AmqpUser {
        url: access.url_for(user, &password),
        applied: ingest.management.is_some(),
        permissions: grants.to_json(),
        definitions: definitions(&access.vhost, user, &password, rand::random(), &grants),
        password,
        user: tenant.clone(),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Delete a tenant's AMQP user and close its connections; again is harmless.
#[utoipa::path(delete, path = "/v1/admin/tenants/{tenant}/amqp-user", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant")),
    responses((status = 204, description = "It is gone"),
        (status = 409, body = Problem, description = "Ingest knows no management API, or the user was not made here")))]
async fn remove(
    State(ingest): App,
    operator: AsOperator,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let tenant = ingest.known_tenant(&name).await?.tenant;
    let Some(management) = &ingest.management else {
        let detail = format!(
            "broker.management_url is not set: run `rabbitmqctl delete_user {tenant}` on the broker"
        );
        return Err(Refusal::new(409, Code::NotAllowed, detail));
    };
    let grants = Grants::of(tenant.as_str()).ok_or_else(|| reserved(&tenant))?;
    ingest
        .audit(&operator, "amqp_user.delete", tenant.as_str(), json!({}))
        .await?;
    management
        .delete_user(tenant.as_str(), &grants)
        .await
        .map_err(managed)?;
    Ok(StatusCode::NO_CONTENT)
}
