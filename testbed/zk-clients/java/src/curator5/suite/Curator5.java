// SPDX-License-Identifier: Apache-2.0
package suite;

import static suite.Suite.eventually;
import static suite.Suite.wantSame;

import java.util.List;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.zookeeper.CreateMode;

/** What came with Curator 5: caches on persistent recursive watches. */
public final class Curator5 {
    public static void add(Suite suite) {
        suite.check("CuratorCache", Curator5::cache);
        suite.check("PersistentWatcher", Curator5::watcher);
    }

    static void cache() throws Exception {
        CuratorFramework curator = CuratorSuite.connect();
        String r = CuratorSuite.root("ccache");
        curator.create().creatingParentContainersIfNeeded().forPath(r + "/a/b", "1".getBytes());
        CuratorCache cache = CuratorCache.build(curator, r);
        cache.start();
        eventually("first", () -> cache.get(r + "/a/b").isPresent());
        curator.setData().forPath(r + "/a/b", "2".getBytes());
        curator.create().withMode(CreateMode.EPHEMERAL).forPath(r + "/a/c");
        eventually("changed", () -> "2".equals(new String(cache.get(r + "/a/b").get().getData())));
        eventually("added", () -> cache.get(r + "/a/c").isPresent());
        CuratorSuite.remove(curator, r + "/a");
        eventually("removed", () -> cache.size() == 1);
        cache.close();
        CuratorSuite.remove(curator, r);
        curator.close();
    }

    static void watcher() throws Exception {
        CuratorFramework curator = CuratorSuite.connect();
        String r = CuratorSuite.root("pwatch");
        curator.create().forPath(r);
        PersistentWatcher watcher = new PersistentWatcher(curator, r, true);
        List<String> seen = new java.util.concurrent.CopyOnWriteArrayList<>();
        java.util.concurrent.CountDownLatch armed = new java.util.concurrent.CountDownLatch(1);
        watcher.getListenable().addListener(event -> seen.add(event.getType() + " " + event.getPath()));
        watcher.getResetListenable().addListener(armed::countDown);
        watcher.start();
        wantSame(armed.await(15, java.util.concurrent.TimeUnit.SECONDS), true);
        curator.create().forPath(r + "/x");
        curator.delete().forPath(r + "/x");
        eventually("two events", () -> seen.size() == 2);
        wantSame(seen, java.util.Arrays.asList("NodeCreated " + r + "/x", "NodeDeleted " + r + "/x"));
        watcher.close();
        curator.delete().forPath(r);
        curator.close();
    }
}
