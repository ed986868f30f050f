use async_nats::Client;
use futures_util::StreamExt;

type Failure = Box<dyn std::error::Error>;

async fn ask(client: &Client, subject: &str, body: &'static str) -> Result<(), Failure> {
    let reply = client.request(format!("$mq9.AI.{subject}"), body.into()).await?;
    println!("{}", String::from_utf8_lossy(&reply.payload));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let client = async_nats::connect(std::env::args().nth(1).ok_or("where is the broker?")?).await?;
    ask(&client, "MAILBOX.CREATE", r#"{"name": "desk", "public": true, "ttl": 3600}"#).await?;
    ask(&client, "MAILBOX.MSG.desk.high", "hello").await?; // answered once it is on disk
    let mut inbox = client.subscribe("$mq9.AI.MAILBOX.MSG.desk.*").await?;
    let message = inbox.next().await.ok_or("the subscription has ended")?;
    let header = |name: &str| message.headers.as_ref().and_then(|all| all.get(name)).map_or("", |value| value.as_str());
    println!("{} {}", header("mq9-priority"), String::from_utf8_lossy(&message.payload));
    ask(&client, "MAILBOX.LIST.desk", r#"{"limit": 10}"#).await?;
    ask(&client, &format!("MAILBOX.DELETE.desk.{}", header("mq9-msg-id")), "").await?;
    ask(&client, "PUBLIC.LIST", "").await
}
