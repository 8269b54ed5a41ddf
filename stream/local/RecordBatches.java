package neardup;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.tasks.ProcessingTimeService;
import org.apache.flink.types.Row;

/**
 * Puts the records of a source that come within some milliseconds into one element of bytes.
 *
 * <p>It keeps nothing over a checkpoint and nothing behind a watermark: what waits is handed on before both. The layout
 * of an element is that of operators/record_batches.py.
 */
public final class RecordBatches extends AbstractStreamOperator
        implements OneInputStreamOperator, ProcessingTimeService.ProcessingTimeCallback {
    /** An element ends with the record that reaches so many bytes. */
    private static final int MOST_BYTES = 262144;

    private static final long NO_TIMESTAMP = Long.MIN_VALUE;

    private final long delayMs;
    private transient ByteArrayOutputStream bytes;
    private transient DataOutputStream out;
    private transient boolean armed;

    public RecordBatches(long delayMs) {
        this.delayMs = delayMs;
    }

    public void open() throws Exception {
        super.open();
        bytes = new ByteArrayOutputStream();
        out = new DataOutputStream(bytes);
        armed = false;
    }

    public void processElement(StreamRecord element) throws Exception {
        Row row = (Row) element.getValue();
        out.writeLong(element.hasTimestamp() ? element.getTimestamp() : NO_TIMESTAMP);
        out.writeInt(((Integer) row.getField(1)).intValue());
        out.writeLong(((Long) row.getField(2)).longValue());
        write((byte[]) row.getField(0));
        write((byte[]) row.getField(3));
        if (bytes.size() >= MOST_BYTES) {
            handOn();
        } else if (!armed) {
            ProcessingTimeService time = getProcessingTimeService();
            time.registerTimer(time.getCurrentProcessingTime() + delayMs, this);
            armed = true;
        }
    }

    public void onProcessingTime(long time) throws Exception {
        armed = false;
        handOn();
    }

    public void processWatermark(Watermark mark) throws Exception {
        handOn();
        super.processWatermark(mark);
    }

    public void prepareSnapshotPreBarrier(long checkpoint) throws Exception {
        handOn();
        super.prepareSnapshotPreBarrier(checkpoint);
    }

    public void finish() throws Exception {
        handOn();
        super.finish();
    }

    private void write(byte[] field) throws Exception {
        if (field == null) {
            out.writeInt(-1);
        } else {
            out.writeInt(field.length);
            out.write(field, 0, field.length);
        }
    }

    private void handOn() {
        if (bytes.size() > 0) {
            byte[] element = bytes.toByteArray();
            bytes.reset();
            output.collect(new StreamRecord(element));
        }
    }
}
