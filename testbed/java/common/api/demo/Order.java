// SPDX-License-Identifier: Apache-2.0
package demo;

import java.io.Serializable;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A value with most of what business objects hold: nesting, maps, dates, enums, BigDecimal, nulls and a cycle. */
public class Order implements Serializable {
    private static final long serialVersionUID = 1L;

    public enum Status { NEW, PAID, SENT }

    private long id;
    private int hops;
    private String title;
    private String note;
    private Status status;
    private BigDecimal total;
    private Date created;
    private double rate;
    private boolean urgent;
    private Map<String, String> labels = new LinkedHashMap<>();
    private List<Line> lines = new ArrayList<>();

    /** One line of an order; {@code order} points back, which makes the cycle. */
    public static class Line implements Serializable {
        private static final long serialVersionUID = 1L;
        private String sku;
        private int count;
        private Order order;

        public String getSku() { return sku; }
        public void setSku(String sku) { this.sku = sku; }
        public int getCount() { return count; }
        public void setCount(int count) { this.count = count; }
        public Order getOrder() { return order; }
        public void setOrder(Order order) { this.order = order; }
    }

    /** The order that all consumers send; {@code id} tells calls apart. */
    public static Order sample(long id) {
        Order order = new Order();
        order.id = id;
        order.title = "Bestellung \u00fc \u4f60\u597d \ud83d\ude00";
        order.status = Status.PAID;
        order.total = new BigDecimal("12345678901234567890.123");
        order.created = new Date(1700000000123L);
        order.rate = 0.1;
        order.urgent = true;
        order.labels.put("colour", "blue");
        order.labels.put("", "empty key");
        for (int i = 0; i < 3; i++) {
            Line line = new Line();
            line.sku = "sku-" + i;
            line.count = i;
            line.order = order;
            order.lines.add(line);
        }
        return order;
    }

    /** Null when {@code got} equals this order but for hops; else what differs. */
    public String difference(Order got) {
        if (got == null) return "null";
        if (got.id != id || got.rate != rate || got.urgent != urgent || got.note != null) return "plain fields";
        if (got.hops != hops + 1) return "hops " + got.hops;
        if (!title.equals(got.title)) return "title " + got.title;
        if (got.status != status) return "status " + got.status;
        if (total.compareTo(got.total) != 0) return "total " + got.total;
        if (!created.equals(got.created)) return "created " + got.created;
        if (!labels.equals(got.labels)) return "labels " + got.labels;
        if (got.lines.size() != lines.size()) return "lines " + got.lines.size();
        for (int i = 0; i < lines.size(); i++) {
            Line line = got.lines.get(i);
            if (!lines.get(i).sku.equals(line.sku) || lines.get(i).count != line.count) return "line " + i;
            if (line.order != got) return "cycle of line " + i;
        }
        return null;
    }

    public long getId() { return id; }
    public void setId(long id) { this.id = id; }
    public int getHops() { return hops; }
    public void setHops(int hops) { this.hops = hops; }
    public String getTitle() { return title; }
    public void setTitle(String title) { this.title = title; }
    public String getNote() { return note; }
    public void setNote(String note) { this.note = note; }
    public Status getStatus() { return status; }
    public void setStatus(Status status) { this.status = status; }
    public BigDecimal getTotal() { return total; }
    public void setTotal(BigDecimal total) { this.total = total; }
    public Date getCreated() { return created; }
    public void setCreated(Date created) { this.created = created; }
    public double getRate() { return rate; }
    public void setRate(double rate) { this.rate = rate; }
    public boolean isUrgent() { return urgent; }
    public void setUrgent(boolean urgent) { this.urgent = urgent; }
    public Map<String, String> getLabels() { return labels; }
    public void setLabels(Map<String, String> labels) { this.labels = labels; }
    public List<Line> getLines() { return lines; }
    public void setLines(List<Line> lines) { this.lines = lines; }
}
