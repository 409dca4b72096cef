"""The commands on the Hub: publish versions as repositories, pull repositories as versions."""
