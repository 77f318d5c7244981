// SPDX-License-Identifier: Apache-2.0
package demo;

import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.config.ServerConfig;

/** Publishes, follows and takes back two services over SOFARPC's mesh registry at the address that is its argument. Calls nothing. */
public class Speak {
    private static final RegistryConfig MESH = new RegistryConfig().setProtocol("mesh");
    private static final ApplicationConfig APPLICATION = new ApplicationConfig().setAppName("demo-app");
    private static final ServerConfig SERVER = new ServerConfig().setProtocol("bolt").setHost("127.0.0.1").setPort(12299).setDaemon(true);

    public static void main(String[] args) throws Exception {
        MESH.setAddress("http://" + args[0]);
        ProviderConfig<EchoService> plain = provider();
        ProviderConfig<EchoService> full = provider().setUniqueId("blue").setVersion("2.0.0")
            .setParameter("sofa.group", "G").setParameter("tag", "blue").setParameter("weight", "30");
        ConsumerConfig<EchoService> one = consumer();
        ConsumerConfig<EchoService> two = consumer().setUniqueId("blue").setVersion("2.0.0").setParameter("sofa.group", "G");
        // Requests come from a pool: a pause keeps their order.
        for (Runnable step : new Runnable[] { plain::export, full::export, one::refer, two::refer, two::unRefer, one::unRefer, full::unExport, plain::unExport }) {
            step.run();
            Thread.sleep(500);
        }
        Runtime.getRuntime().halt(0);
    }

    private static ProviderConfig<EchoService> provider() {
        return new ProviderConfig<EchoService>().setApplication(APPLICATION).setRegistry(MESH).setServer(SERVER)
            .setInterfaceId(EchoService.class.getName()).setRef(text -> text).setRepeatedExportLimit(-1);
    }

    private static ConsumerConfig<EchoService> consumer() {
        return new ConsumerConfig<EchoService>().setApplication(APPLICATION).setRegistry(MESH).setProtocol("bolt")
            .setInterfaceId(EchoService.class.getName()).setTimeout(3000).setRepeatedReferLimit(-1).setLazy(true);
    }

    /** What is published. */
    public interface EchoService {
        /** Never called. */
        String echo(String text);
    }
}
