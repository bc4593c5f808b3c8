"""What the demo applies; a starting point for a bundle of your own."""
