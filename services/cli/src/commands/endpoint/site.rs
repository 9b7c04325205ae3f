//! RunPod with our key, and which endpoint is meant.

use std::path::PathBuf;

use photofinish_runpod::client::{Client, ClientSettings};
use photofinish_runpod::management::{
    Endpoint, EndpointSpec, ManagementClient, ManagementSettings,
};
use secrecy::SecretString;

use super::file::{EndpointFile, name_in};
use crate::args::EndpointArgs;
use crate::endpoint_error::EndpointError;
use crate::error::CliError;
use crate::settings::Settings;

/// RunPod's two interfaces and the endpoint that is meant.
#[derive(Debug)]
pub(crate) struct Site {
    /// What endpoints are.
    pub(crate) management: ManagementClient,
    /// What they do: health and jobs.
    pub(crate) data: Client,
    id: Option<String>,
    file: PathBuf,
}

impl Site {
    /// Clients from what was typed; calls nobody yet.
    pub(crate) fn new(args: &EndpointArgs, settings: &Settings) -> Result<Self, CliError> {
        let key = settings.runpod_api_key.clone().map(|key| key.text);
        let key = key.ok_or(CliError::NoKey {
            variable: "RUNPOD_API_KEY",
            flag: "--runpod-api-key",
        })?;
        let key = SecretString::from(key);
        let management = ManagementSettings {
            rest_base_url: args.rest_url.clone(),
            data_base_url: args.data_url.clone(),
            ..ManagementSettings::new(key.clone())
        };
        let data = Client::new(ClientSettings::new(&args.data_url, key))
            .map_err(|error| CliError::Usage(error.to_string()))?;
        Ok(Self {
            management: ManagementClient::new(management)?,
            data,
            id: settings.runpod_endpoint_id.clone().map(|id| id.text),
            file: args.file.clone(),
        })
    }

    /// What the endpoint shall be.
    pub(crate) async fn desired(&self) -> Result<EndpointSpec, CliError> {
        let file = EndpointFile::read(&self.file, &variable)?;
        let Some(wanted) = file.template.clone() else {
            return Ok(file.resolve(None));
        };
        let template = self.management.find_template(&wanted).await?;
        let serverless = template.filter(|one| one.serverless);
        let template = serverless.ok_or_else(|| {
            CliError::Usage(format!(
                "{}: RunPod has no serverless template {wanted}",
                self.file.display()
            ))
        })?;
        Ok(file.resolve(Some(&template)))
    }

    /// The endpoint that is meant, if RunPod has it. One that `--id` names has to be there.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Endpoint>, CliError> {
        match &self.id {
            Some(id) => Ok(Some(self.management.get_endpoint(id).await?)),
            None => Ok(self.management.find_endpoint(name).await?),
        }
    }

    /// The endpoint that is meant.
    pub(crate) async fn endpoint(&self) -> Result<Endpoint, CliError> {
        let name = match &self.id {
            Some(_) => String::new(),
            None => name_in(&self.file, &variable)?,
        };
        let found = self.find(&name).await?;
        Ok(found.ok_or(EndpointError::NotThere { name })?)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "endpoint.toml names variables of the user's shell, which no setting can know beforehand"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
