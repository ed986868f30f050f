import io.nats.client.Connection;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Subscription;
import java.time.Duration;

public class Example {
    static final Duration PATIENCE = Duration.ofSeconds(5);

    static void ask(Connection nc, String subject, String body) throws Exception {
        System.out.println(new String(nc.request("$mq9.AI." + subject, body.getBytes(), PATIENCE).getData()));
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection nc = Nats.connect(arguments[0])) {
            ask(nc, "MAILBOX.CREATE", "{\"name\": \"desk\", \"public\": true, \"ttl\": 3600}");
            ask(nc, "MAILBOX.MSG.desk.high", "hello"); // answered once it is on disk
            Subscription inbox = nc.subscribe("$mq9.AI.MAILBOX.MSG.desk.*");
            Message message = inbox.nextMessage(PATIENCE);
            System.out.println(message.getHeaders().getFirst("mq9-priority") + " " + new String(message.getData()));
            ask(nc, "MAILBOX.LIST.desk", "{\"limit\": 10}");
            ask(nc, "MAILBOX.DELETE.desk." + message.getHeaders().getFirst("mq9-msg-id"), "");
            ask(nc, "PUBLIC.LIST", "");
        }
    }
}
