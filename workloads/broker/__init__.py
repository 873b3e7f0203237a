"""The site's MQTT broker for live values: mosquitto, configured to keep nothing."""
