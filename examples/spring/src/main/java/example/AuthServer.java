// This file is a whole authorization server: Spring's, with the device flow
// switched on, the page that asks for the code, two users, and their groups in
// the access token.
package example;

import static org.springframework.security.config.Customizer.withDefaults;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.core.annotation.Order;
import org.springframework.http.MediaType;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.GrantedAuthority;
import org.springframework.security.core.userdetails.User;
import org.springframework.security.core.userdetails.UserDetailsService;
import org.springframework.security.oauth2.server.authorization.OAuth2AuthorizationConsent;
import org.springframework.security.oauth2.server.authorization.OAuth2AuthorizationConsentService;
import org.springframework.security.oauth2.server.authorization.OAuth2TokenType;
import org.springframework.security.oauth2.server.authorization.token.JwtEncodingContext;
import org.springframework.security.oauth2.server.authorization.token.OAuth2TokenCustomizer;
import org.springframework.security.provisioning.InMemoryUserDetailsManager;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.security.web.authentication.LoginUrlAuthenticationEntryPoint;
import org.springframework.security.web.authentication.SimpleUrlAuthenticationSuccessHandler;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.util.HtmlUtils;

@SpringBootApplication
public class AuthServer {

	public static void main(String[] args) {
		SpringApplication.run(AuthServer.class, args);
	}

	/** The protocol. Both device endpoints are off until they are named here. */
	@Bean
	@Order(1)
	SecurityFilterChain protocol(HttpSecurity http) throws Exception {
		http.oauth2AuthorizationServer((server) -> {
			http.securityMatcher(server.getEndpointsMatcher());
			server.oidc(withDefaults()); // its discovery document; no ID tokens come of it in this flow
			server.deviceAuthorizationEndpoint((device) -> device.verificationUri("/device"));
			server.deviceVerificationEndpoint((device) -> device
				.deviceVerificationResponseHandler(new SimpleUrlAuthenticationSuccessHandler("/done")));
		});
		return http.authorizeHttpRequests((requests) -> requests.anyRequest().authenticated())
			.exceptionHandling((e) -> e.authenticationEntryPoint(new LoginUrlAuthenticationEntryPoint("/login")))
			.build();
	}

	/** The pages, behind Spring's own sign-in form. */
	@Bean
	@Order(2)
	SecurityFilterChain pages(HttpSecurity http) throws Exception {
		return http.authorizeHttpRequests((requests) -> requests.anyRequest().authenticated())
			.formLogin(withDefaults())
			.build();
	}

	@Bean
	UserDetailsService users() {
		return new InMemoryUserDetailsManager(
				User.withUsername("alice").password("{noop}alice-password").authorities("admins", "staff").build(),
				User.withUsername("bob").password("{noop}bob-password").authorities("staff").build());
	}

	/**
	 * Remembers no consent, so that each code is asked about. With the default, whoever
	 * agreed once connects any other device by opening its link.
	 */
	@Bean
	OAuth2AuthorizationConsentService consents() {
		return new OAuth2AuthorizationConsentService() {

			@Override
			public void save(OAuth2AuthorizationConsent consent) {
			}

			@Override
			public void remove(OAuth2AuthorizationConsent consent) {
			}

			@Override
			public OAuth2AuthorizationConsent findById(String clientId, String user) {
				return null;
			}

		};
	}

	/** What the gateway's {@code Remote-Groups} and {@code require groups} go by. */
	@Bean
	OAuth2TokenCustomizer<JwtEncodingContext> groups(UserDetailsService users) {
		return (token) -> {
			if (OAuth2TokenType.ACCESS_TOKEN.equals(token.getTokenType())) {
				token.getClaims().claim("groups", users.loadUserByUsername(token.getPrincipal().getName())
					.getAuthorities().stream().map(GrantedAuthority::getAuthority).toList());
			}
		};
	}

	@RestController
	static class Pages {

		/** Asks for the code, which is filled in already for whoever comes by the link or the QR code. */
		@GetMapping(path = "/device", produces = MediaType.TEXT_HTML_VALUE)
		String device(@RequestParam(name = "user_code", defaultValue = "") String code) {
			return """
					<!doctype html><html lang="en"><title>Connect a device</title>
					<h1>Connect a device</h1>
					<form action="/oauth2/device_verification">
					<label>Code on the device
					<input name="user_code" value="%s" autocapitalize="characters" autofocus></label>
					<button>Continue</button>
					</form>
					""".formatted(HtmlUtils.htmlEscape(code));
		}

		@GetMapping(path = "/done", produces = MediaType.TEXT_HTML_VALUE)
		String done() {
			return "<!doctype html><html lang=\"en\"><title>Done</title><h1>Done. Go back to the device.</h1>";
		}

	}

}
