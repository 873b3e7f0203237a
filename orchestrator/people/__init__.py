"""People at the centre: who they are (accounts, second factors, sessions, tokens), and what they may do."""
