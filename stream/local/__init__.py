"""One machine's deployment: the real broker, Flink and our servers as supervised processes.

`broker` and `flink_home` render the configuration of Kafka and Flink from the settings. `parts` lists every process as
data, and `readiness` checks whether a part serves. `daemon` controls the one supervisord that runs them.
`processes` finds and ends processes without a supervisor. `supervisor` puts it together: up and down.
"""
