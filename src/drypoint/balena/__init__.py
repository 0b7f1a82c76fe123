"""Everything specific to balena: target states, the Supervisor, and the layout of balenaOS disk images."""
