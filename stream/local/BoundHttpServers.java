package neardup;

import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsServer;
import com.sun.net.httpserver.spi.HttpServerProvider;
import java.io.IOException;
import java.net.InetSocketAddress;

/** Java's own HTTP servers, but listening on the address of the property neardup.metrics.host alone. */
public final class BoundHttpServers extends HttpServerProvider {
    /** Connections that may wait to be accepted; the reporter asks for 3, which a burst of callers exceeds. */
    private static final int BACKLOG = 128;

    private final HttpServerProvider java = new sun.net.httpserver.DefaultHttpServerProvider();

    public HttpServer createHttpServer(InetSocketAddress asked, int backlog) throws IOException {
        return java.createHttpServer(bound(asked), Math.max(backlog, BACKLOG));
    }

    public HttpsServer createHttpsServer(InetSocketAddress asked, int backlog) throws IOException {
        return java.createHttpsServer(bound(asked), Math.max(backlog, BACKLOG));
    }

    private static InetSocketAddress bound(InetSocketAddress asked) {
        return new InetSocketAddress(System.getProperty("neardup.metrics.host"), asked.getPort());
    }
}
